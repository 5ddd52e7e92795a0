# A stand-in for the database client, for the tests of the runner's protocol: it
# harms whoever connects. The account says how, the password what to call it.

import os
import signal
import subprocess
import sys
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
acted = set()


class MySQLError(Exception):
    pass


class ProgrammingError(MySQLError):
    pass


err, cursors = types.ModuleType("pymysql.err"), types.ModuleType("pymysql.cursors")
err.MySQLError, err.ProgrammingError, cursors.DictCursor = MySQLError, ProgrammingError, dict
sys.modules["pymysql.err"], sys.modules["pymysql.cursors"] = err, cursors


class Nothing:
    """A connection, and a cursor of it, that knows nothing."""

    description = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def cursor(self):
        return self

    def close(self, *_):
        pass

    execute = callproc = close


def note(name, text=""):
    with open(f"{HERE}/{name}.new", "w") as f:
        f.write(text)
    os.replace(f"{HERE}/{name}.new", f"{HERE}/{name}")


def daemons():
    """Leaves one with closed descriptors, and one with all of ours."""
    subprocess.Popen(["sh", "-c", "trap '' TERM HUP; sleep 7702"], start_new_session=True, stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(7702)
        os._exit(0)


def descriptors():
    """All open ones: while many operations run, the parent's pipes have high numbers."""
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))


def forge(name):
    lines = [b'{"event": "hello", "protocol": 9}', b'{"event": "progress", "id": "forged", "message": 7, "percent": "x"}', b'{"event": "progress"}',
             b'[1]', b'7', b'"ok"', b'\0\xff{', b"[" * 5000, b'{"ok": true, "id": "forged", "event": "hello", "result": {"changed": true}}', b'{"ok": tr']
    for fd in descriptors():
        try:
            os.write(fd, b"\n".join(lines[:len(lines) - int(name) % 3]) + b"\n" * (int(name) % 2))
        except OSError:
            pass


def connect(user, password, **_):
    if password in acted:
        return Nothing()
    acted.add(password)
    how = user
    if how == "nest":
        daemons()
    note("began-" + password, f"{os.getpid()} {os.nice(0)} {os.getpriority(os.PRIO_PROCESS, os.getppid())}")
    if how in ("hang", "nest"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(7702)
    if how == "slow":
        time.sleep(0.1)
    if how == "loud":
        os.write(1, b"x" * 60000)
    if how == "noise":
        os.write(1, b'{"id": "forged", "ok": true}\n{' + os.urandom(100))
        os.write(2, b"[1]\n")
    if how == "flood":
        for _ in range(100):
            os.write(1, b"flood " * 1000)
        time.sleep(7702)
    if how == "endless":
        for fd in descriptors():
            try:
                if fd > 2 and os.fstat(fd).st_mode & 0o170000 == 0o010000:
                    os.write(fd, b'{"ok": true, "result": "' + b"x" * (3 << 20))
            except OSError:
                pass
        time.sleep(7702)
    if how == "forge":
        forge(password[1:])
        raise RuntimeError("after the forgery")
    if how == "daemons":
        daemons()
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(0)
    if how == "crash":
        raise RuntimeError("unforeseen")
    if how == "refuse":
        raise MySQLError(31002, "nexus: of another job")
    if how == "away":
        raise MySQLError(2003, "Can't connect")
    return Nothing()
