package bench

import (
	"cmp"
	"errors"
	"io"
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

// openLocked opens a file, making it if needed, and waits for its lock, which holds across
// processes. Closing unlocks it.
func openLocked(path string) (fd int, err error) {
	fd, err = open(path, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return 0, err
	}
	if err := again(func() error { return unix.Flock(fd, unix.LOCK_EX) }); err != nil {
		_ = unix.Close(fd) // it was not used
		return 0, pathError("flock", path, err)
	}
	return fd, nil
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
	return readAll(fd, path, buf)
}

// readAll is readFile for a file that is open.
func readAll(fd int, path string, buf []byte) ([]byte, error) {
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

// writeFile makes text the content of a file, making it if needed.
func writeFile(path string, text []byte) error {
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
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

// writeOver writes a short text over the beginning of an open file of this length, which is
// then its whole content. A kill does not tear one short write. A longer text is removed
// first; Nexus writes none.
func writeOver(fd int, path string, text []byte, length int) error {
	if len(text) < length {
		if err := again(func() error { return unix.Ftruncate(fd, 0) }); err != nil {
			return pathError("truncate", path, err)
		}
	}
	return pathError("write", path, again(func() error {
		n, err := unix.Pwrite(fd, text, 0)
		if err == nil && n < len(text) {
			err = io.ErrShortWrite
		}
		return err
	}))
}

// replace writes a file atomically. The caller holds the site's lock, so nobody else
// uses the temporary name.
func replace(path string, text []byte) error {
	if err := writeFile(path+".new", text); err != nil {
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
