"""Lock files: the kernel's lock counts, a file left behind is harmless."""

import fcntl
import os
import time
from contextlib import contextmanager

import frappe
from frappe import release
from frappe.utils import get_bench_path, get_site_path
from frappe.utils.file_lock import LockTimeoutError

LOCKS_DIR = "locks"


@contextmanager
def filelock(lock_name, *, timeout=30, is_global=False):
    """Holds sites/SITE/locks/NAME.lock, or BENCH/config/NAME.lock if global."""
    filename = lock_name + ".lock"
    path = os.path.join(get_bench_path(), "config", filename) if is_global else get_site_path(LOCKS_DIR, filename)
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = _acquire(lock_name, path, time.monotonic() + timeout)
    try:
        yield
    finally:
        if release.LOCK_FILE_GOES:
            os.unlink(path)
        os.close(fd)


def _acquire(name, path, deadline):
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)  # its last holder has removed it
        except BlockingIOError:
            os.close(fd)
            if time.monotonic() >= deadline:
                frappe.log_error("Filelock: Failed to aquire {lock_path}")
                raise LockTimeoutError(
                    f"Failed to aquire lock: {name}. Lock may be held by another process.<br>"
                    f"You can manually remove the lock if you think it's safe: {path}"
                )
            time.sleep(0.05)
