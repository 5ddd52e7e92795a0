# Runner of Nexus Provisioner: works inside a bench's container, started over
# `docker exec -i`. The files of this folder are joined in name order into one
# program; see internal/bench/docker.go for how it is fed.
#
# The parent (90_parent.py) reads one JSON operation a line and forks a child for
# each; a child does one operation and ends. Frames leave by one descriptor only.

import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets as random_source
import selectors
import shutil
import signal
import socket
import stat
import string
import subprocess
import sys
import threading
import time
import traceback

PROTOCOL = 1
BENCH = os.getcwd()
SITES = os.path.join(BENCH, "sites")
OURS = os.path.join(SITES, ".nexus")
PYTHON = os.path.join(BENCH, "env", "bin", "python")
DB_NAME = re.compile(r"^nx[0-9a-z]{4,62}$")
# A database of another maker: Frappe's own names are _ and 16 hex digits.
OTHER_DB_NAME = re.compile(r"^[_0-9a-z]{1,64}$")
SYSTEM_DBS = ("mysql", "information_schema", "performance_schema", "sys", "nexus")
SITE_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?$")

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Refusal(Exception):
    """An error that knows its code; the message is safe for people."""

    def __init__(self, code, message, detail="", seen=None):
        super().__init__(message)
        self.code, self.message, self.detail, self.seen = code, message, detail, seen
        self.unbegun = False  # an outage came before the deed: nothing was tried
        self.outdated = False  # a job that was submitted later has changed the site's state
        self.number = 0  # MariaDB's, if it is an error of MariaDB's


def prctl(option, value):
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def spelled(value):
    """A pattern for a secret however it was quoted on its way into a text: each of
    its characters behind some backslashes, or as an escape of Python, JSON or a
    URL. Few backslashes: a flood of them must not cost more than its length."""
    out = []
    for c in value:
        forms = [re.escape(c), f"(?i:u{ord(c):04x})", f"(?i:x{ord(c):02x})"]
        octets = c.encode("utf-8", "surrogatepass")
        forms += [r"\\{0,8}".join(f"(?i:x{octet:02x})" for octet in octets), "".join(f"(?i:%{octet:02x})" for octet in octets)]
        out.append(r"\\{0,8}(?:" + "|".join(dict.fromkeys(forms)) + ")")
    return "".join(out)


def redact(text, hidden):
    """Takes every secret out of a text; to be done before the text is cut, or half
    of a secret may stay."""
    for value in sorted((v for v in hidden if v and len(v) > 3), key=len, reverse=True):
        text = re.sub(spelled(value), "***", text)
    return text


def password(length=24):
    # Letters and digits only: it ends up between quotes in SQL and in argv.
    alphabet = string.ascii_letters + string.digits
    return "".join(random_source.choice(alphabet) for _ in range(length))


# --- processes ---------------------------------------------------------------


def start_time(pid):
    """When a process started, in ticks since boot: a pid alone may be reused."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return int(f.read().rsplit(b")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def parents():
    """pid → parent's pid of every process there is."""
    out = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as f:
                    out[int(name)] = int(f.read().rsplit(b")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                pass
    return out


def descendants(root):
    tree, found = parents(), [root]
    for pid in found:
        found.extend(child for child, parent in tree.items() if parent == pid and child not in found)
    return found[1:]


def kill_tree(pid):
    """Ends a process with its group and all descendants, until none is left: a
    helper in a session of its own survives the end of its group."""
    for _ in range(50):
        family = [*descendants(pid), pid]
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        alive = False
        for member in family:
            with contextlib.suppress(OSError):
                os.kill(member, signal.SIGKILL)
                alive = alive or start_time(member) is not None and member != pid
        if not alive:
            return
        time.sleep(0.01)


# --- files -------------------------------------------------------------------


CONFIG_LIMIT = 4 << 20  # bytes


def read_json(path):
    """What a file holds; None: it is none, or holds no JSON."""
    for attempt in (1, 2):
        try:
            # What is no file, such as a pipe, must not hold us up.
            with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as f:
                return json.loads(f.read(CONFIG_LIMIT).decode()) if stat.S_ISREG(os.fstat(f.fileno()).st_mode) else None
        except ValueError:  # Frappe rewrites in place: a reader may see half of it
            time.sleep(0.05 if attempt == 1 else 0)
        except RecursionError:
            return None
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO):
                return None
            raise
    return None


def read_object(path):
    """A file that holds one JSON object; any other holds nothing for us."""
    return mapping(read_json(path))


def glimpse(path):
    """The same of what may be anybody's, met while we look around: what our user may
    not read (lost+found, on a disk of its own) is no site that this bench serves."""
    with contextlib.suppress(PermissionError):
        return read_object(path)
    return {}


def mapping(value):
    return value if isinstance(value, dict) else {}


def text(value):
    return value if isinstance(value, str) else ""


def write_json(path, value, mode=0o600, durable=True):
    """Puts a whole new file in the place of the old one, and on the disk."""
    folder, name = os.path.split(path)
    temp = os.path.join(folder, f".{name}.{os.getpid()}.new")  # no site's name begins so
    try:
        with os.fdopen(os.open(temp, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as f:
            json.dump(value, f, indent=1, sort_keys=True)
            f.flush()
            os.fsync(f.fileno())  # always: a power loss must leave the old file or the new one, never an empty one
        os.replace(temp, path)
    except OSError:  # a full disk, above all
        remove(temp)
        raise
    if durable:
        sync_dir(folder)


def forget_unfinished(path):
    """Removes the new files that killed processes never put in a file's place."""
    folder, name = os.path.split(path)
    for other in os.listdir(folder) if os.path.isdir(folder) else ():
        if re.fullmatch(re.escape(f".{name}.") + "[0-9]+" + re.escape(".new"), other):
            remove(os.path.join(folder, other))


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def our_folder(*parts):
    path = os.path.join(OURS, *parts)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def common_config():
    return read_object(os.path.join(SITES, "common_site_config.json"))


def installed_id():
    """The install that the bench was set up for; empty: none, or its volume is away."""
    with contextlib.suppress(OSError):
        return text(read_json(os.path.join(OURS, "install")))
    return ""
