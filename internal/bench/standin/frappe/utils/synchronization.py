"""Lock files: the kernel's lock counts, a file left behind is harmless."""

import fcntl
import os
import time
from contextlib import contextmanager

import frappe
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
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _acquire(fd, lock_name, path, time.monotonic() + timeout)
        yield
    finally:
        os.close(fd)


def _acquire(fd, name, path, deadline):
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                frappe.log_error("Filelock: Failed to aquire {lock_path}")
                raise LockTimeoutError(
                    f"Failed to aquire lock: {name}. Lock may be held by another process.<br>"
                    f"You can manually remove the lock if you think it's safe: {path}"
                )
            time.sleep(0.05)
