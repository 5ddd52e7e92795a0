# Runner of Nexus Provisioner: works inside a bench's container, started over
# `docker exec -i`. The files of this folder are joined in name order into one
# program; internal/bench/docker.go sends it.
#
# The parent (90_parent.py) reads one JSON operation per line and forks children, which
# carry them out. Frames are written to one descriptor only.

import contextlib
import ctypes
import datetime
import errno
import fcntl
import functools
import gc
import hashlib
import importlib
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
    """An error with a code (nexus.Code in Go) and a message that may be shown to users."""

    def __init__(self, code, message, detail="", seen=None):
        super().__init__(message)
        self.code, self.message, self.detail, self.seen = code, message, detail, seen
        self.unbegun = False  # the operation had not begun: no attempt is counted
        self.outdated = False  # a job that was submitted later has changed the site's state
        self.number = 0  # MariaDB's, if it is an error of MariaDB's


def prctl(option, value):
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def spelled(value):
    """A pattern that matches a secret however it was quoted: each of its characters
    after some backslashes, or as an escape of Python, JSON or a URL. The number of
    backslashes is bounded, so that matching takes linear time."""
    out = []
    for c in value:
        forms = [re.escape(c), f"(?i:u{ord(c):04x})", f"(?i:x{ord(c):02x})"]
        octets = c.encode("utf-8", "surrogatepass")
        forms += [r"\\{0,8}".join(f"(?i:x{octet:02x})" for octet in octets), "".join(f"(?i:%{octet:02x})" for octet in octets)]
        out.append(r"\\{0,8}(?:" + "|".join(dict.fromkeys(forms)) + ")")
    return "".join(out)


def redact(text, hidden):
    """Replaces every secret in a text. Call it before the text is cut: half a secret
    would not be found."""
    for value in sorted((v for v in hidden if v and len(v) > 3), key=len, reverse=True):
        text = re.sub(spelled(value), "***", text)
    return text


def password(length=24):
    # Letters and digits only: it is put between quotes in SQL, and into argv.
    alphabet = string.ascii_letters + string.digits
    return "".join(random_source.choice(alphabet) for _ in range(length))


# --- processes ---------------------------------------------------------------


def start_time(pid):
    """When a process started, in ticks since boot, or None. With the pid it names one
    process: a pid alone may be reused."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return int(f.read().rsplit(b")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def parents():
    """Maps the pid of every process to its parent's."""
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
    """Kills a process, its process group and all descendants, until none is left: a
    descendant in a session of its own is not in the group."""
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
    """Returns a file's JSON; None if there is no such file, or it holds no JSON."""
    for attempt in (1, 2):
        try:
            # O_NONBLOCK: opening a named pipe must not block.
            with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as f:
                return json.loads(f.read(CONFIG_LIMIT).decode()) if stat.S_ISREG(os.fstat(f.fileno()).st_mode) else None
        except ValueError:  # Frappe rewrites files in place: this may be half of one
            time.sleep(0.05 if attempt == 1 else 0)
        except RecursionError:
            return None
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO):
                return None
            raise
    return None


def read_object(path):
    """Returns a file's JSON object; empty if it holds anything else, or is not there."""
    return mapping(read_json(path))


def read_if_readable(path):
    """Like read_object, for files of other makers: one that the bench's user may not
    read (below lost+found, say) is none of a site that this bench serves, and counts as
    empty."""
    with contextlib.suppress(PermissionError):
        return read_object(path)
    return {}


def mapping(value):
    return value if isinstance(value, dict) else {}


def text(value):
    return value if isinstance(value, str) else ""


def short(value):
    """A text from a site's config, cut: the tenant's code may have written it, and an
    answer must fit into one line (LINE_LIMIT)."""
    return text(value)[:255]


def write_json(path, value, mode=0o600, durable=True):
    """Replaces a file atomically, and durably: a reader sees the old or the new one."""
    folder, name = os.path.split(path)
    temp = os.path.join(folder, f".{name}.{os.getpid()}.new")  # no site's name begins so
    try:
        with os.fdopen(os.open(temp, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as f:
            json.dump(value, f, indent=1, sort_keys=True)
            f.flush()
            os.fsync(f.fileno())  # always: a power loss must leave the old file or the new one, never an empty one
        os.replace(temp, path)
    except OSError:  # mostly a full disk
        remove(temp)
        raise
    if durable:
        sync_dir(folder)


def forget_unfinished(path):
    """Removes the temporary files of write_json that killed processes left."""
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
    """The id of the install that the bench was set up for; empty if there is none, or
    the volume of sites/ is not mounted."""
    with contextlib.suppress(OSError):
        return text(read_json(os.path.join(OURS, "install")))
    return ""
