package bench

import (
	"cmp"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// The sandbox's files are small, and each operation opens several. They are not read with
// package os, which makes nearly three times as many system calls: it tries to register each file
// with the poller, and reads once more to see the end.

// again repeats a system call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func open(path string, flags int) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		return err
	})
	return fd, pathError("open", path, err)
}

// pathError names the call and the file of an error; nil stays nil.
func pathError(call, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: call, Path: path, Err: err}
}

// readFile reads a file into buf or, if it does not fit, into a larger buffer. A regular
// file answers with less than was asked for only at its end.
func readFile(path string, buf []byte) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	for size := 0; ; {
		if size == len(buf) {
			buf = append(buf, make([]byte, max(size, 1<<10))...) // most are smaller than that
		}
		n := 0
		err := again(func() (err error) {
			n, err = unix.Read(fd, buf[size:])
			return err
		})
		if err != nil {
			return nil, pathError("read", path, err)
		}
		if size += n; size < len(buf) {
			return buf[:size], nil
		}
	}
}

// writeFile writes text over the beginning of a file, making it if needed. With
// unix.O_TRUNC the file ends after it.
func writeFile(path string, flags int, text []byte) error {
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT|flags)
	if err != nil {
		return err
	}
	for err == nil && len(text) > 0 {
		n := 0
		err = again(func() (err error) {
			n, err = unix.Write(fd, text)
			return err
		})
		text = text[max(n, 0):]
	}
	return pathError("write", path, cmp.Or(err, unix.Close(fd)))
}

// replace writes a file atomically. The caller holds the site's lock, so nobody else
// uses the temporary name.
func replace(path string, text []byte) error {
	if err := writeFile(path+".new", unix.O_TRUNC, text); err != nil {
		return broken(err)
	}
	if err := again(func() error { return unix.Rename(path+".new", path) }); err != nil {
		return broken(pathError("rename", path, err))
	}
	return nil
}

// remove removes a file, and the temporary one that a killed process may have left.
func remove(path string) error {
	for _, file := range []string{path + ".new", path} {
		if err := again(func() error { return unix.Unlink(file) }); err != nil && !errors.Is(err, unix.ENOENT) {
			return broken(pathError("unlink", file, err))
		}
	}
	return nil
}
