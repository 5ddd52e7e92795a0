# Fencing on the bench: of two operations on one database the one with the higher
# fencing token wins, and the other is killed before it begins. The lock is keyed by the
# database's name, which a rename of the site does not change.


# How far ahead of the clock, in microseconds, a token may be (nexus.GenAhead in Go).
# One that is further ahead was never issued: it is neither published nor believed.
GEN_AHEAD = 7 * 86400 * 1000000


def plausible(gen):
    return 0 <= gen <= time.time() * 1000000 + GEN_AHEAD


def published(record, field="gen"):
    """A token in a fence's file; 0 if it is none that we issued."""
    try:
        gen = int(record.get(field, 0))
    except (TypeError, ValueError):
        return 0
    return gen if plausible(gen) else 0


class Deadline:
    def __init__(self, seconds):
        self.at = time.monotonic() + seconds

    def left(self):
        return max(0.0, self.at - time.monotonic())


def flock(path, wait, mode=0o600, shared=False):
    """Opens and locks a file; returns its descriptor, or None if it is not free in time.
    The descriptor is inheritable: the lock ends with the last descendant. If the last
    holder removed the file (see lock_file_goes) it is opened again, since others lock
    the new one."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, mode)
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if same_file(fd, path):
                os.set_inheritable(fd, True)
                return fd
            os.close(fd)
            fd = os.open(path, os.O_CREAT | os.O_RDWR, mode)
            continue
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() >= end:
            os.close(fd)
            return None
        time.sleep(0.01)


def same_file(fd, path):
    """Whether a descriptor's file is the one at a path."""
    ours = os.fstat(fd)
    with contextlib.suppress(FileNotFoundError):
        theirs = os.stat(path)
        return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
    return False


@contextlib.contextmanager
def short_lock(path):
    fd = flock(path, 10)
    if fd is None:
        raise Refusal("unavailable", "Another operation holds a lock of the bench too long.", path)
    os.set_inheritable(fd, False)
    try:
        yield
    finally:
        os.close(fd)


def publish(base, op):
    """Records our token as the highest seen, with this process as its holder, and
    returns the former holder. This precedes the killing of that holder.

    Jobs on one site run one after another, so once a job has begun to change the site's
    state, each job that was submitted before it is over. One that runs nevertheless
    comes from a backup of Redis, and is refused. The last such job is kept in this file,
    not in the marker, since the tenant's code may write into the site's config."""
    gen = op.gen
    if not plausible(gen):
        refused = Refusal("unavailable", "The operation's token is far ahead of the bench's clock; set the clocks of the bench and of Redis.", f"gen {gen}")
        refused.unbegun = True
        raise refused
    with short_lock(base + ".meta"):
        before = read_object(base + ".gen")
        if not before and os.path.exists(base + ".gen"):
            before = {"broken": True}  # the former holder is unknown: not clean
        seen = published(before)
        if before and not seen:
            before = {**before, "clean": False}  # no token that we issued: what its holder did is unknown
        if op.name == "warm":  # it ends nothing, and anything ends it
            if is_alive(before) and not before.get("clean"):
                raise in_use(op)
            op.gen = gen = seen
        if gen < seen:
            raise Refusal("fenced", "A newer run works on this site.", f"gen {gen} below {seen}", seen)
        last = published(before, "lastChange")
        if 0 < op.submitted < last:
            refused = Refusal("conflict", f"A job that was submitted later has changed the state of {op.site}.", f"submitted {op.submitted}, last change {last}")
            refused.outdated = True
            raise refused
        if op.name == "mark":
            last = max(last, op.submitted)
        me = {"gen": str(gen), "host": socket.gethostname(), "pid": os.getpid(), "start": start_time(os.getpid()), "lastChange": str(last)}
        if before != me:  # they are equal if this process had the operation before
            write_json(base + ".gen", me)
        return before


def kill_holder(holder):
    """Kills the former operation's process, if the pid is still that process: it means
    nothing on another host, or once the process has ended. Call it only while that
    operation's lock is held."""
    if is_alive(holder) and holder["pid"] != os.getpid():
        kill_tree(holder["pid"])


def is_alive(holder):
    pid = holder.get("pid")
    return bool(pid) and holder.get("host") == socket.gethostname() and start_time(pid) is not None and start_time(pid) == holder.get("start")


def in_use(op):
    return Refusal("conflict", f"Another operation works on {op.site}.")


def fence(op, stop_only=False, known=True):
    """Locks the site's database for this operation; the lock ends with the process, which
    may have it from the operation before.
    MariaDB goes on with the statements of a dead client, so after an operation that did
    not end cleanly the database's threads are killed too. After one that did, the threads
    are the tenant's own and are left alone, as are those of a database that is not known
    to be ours."""
    base = os.path.join(our_folder("fence"), op.db)
    lock = None
    if op.name == "warm" and (lock := flock(base + ".lock", 0)) is None:
        raise in_use(op)
    holder = publish(base, op)
    if op.has_lock:
        return
    lock = lock or flock(base + ".lock", 0)
    if lock is None:
        kill_holder(holder)
    if known and (stop_only or lock is None or holder and not holder.get("clean")):
        stop_threads(op)
    if stop_only:
        return
    if lock is None:
        lock = flock(base + ".lock", min(20, op.deadline.left()))
        if lock is None:
            raise Refusal("unavailable", "A former operation on this site does not end.", f"holder {holder}")
    with short_lock(base + ".meta"):
        seen = published(read_object(base + ".gen"))
    if seen > op.gen:
        raise Refusal("fenced", "A newer run works on this site.", f"gen {op.gen} below {seen}", seen)


def ended_well(op):
    """Records that the operation left nothing running. If the record is lost, the next
    operation only kills threads once more, so it is not synced to disk."""
    base = os.path.join(our_folder("fence"), op.db)
    with contextlib.suppress(OSError), short_lock(base + ".meta"):
        now = read_object(base + ".gen")
        if now.get("pid") == os.getpid() and now.get("gen") == str(op.gen):
            write_json(base + ".gen", {**now, "clean": True}, durable=False)


def forget_fence(db, gen=None):
    """Removes the fence files of a database that is gone. The caller holds its lock, and
    gives its token. A lower token is still refused, by the register."""
    base = os.path.join(our_folder("fence"), db)
    with short_lock(base + ".meta"):
        if gen is not None and published(read_object(base + ".gen")) != gen:
            return  # a newer operation waits for the lock
        forget_unfinished(base + ".gen")
        for end in (".gen", ".lock", ".meta"):
            remove(base + end)


def sweep_fences(live):
    """Removes fence files that are a day old and whose database or site is gone: those
    of operations that found nothing, and of former versions, which kept them."""
    folder = our_folder("fence")
    for name in os.listdir(folder):
        path, (stem, end) = os.path.join(folder, name), os.path.splitext(name)
        site = stem.removeprefix("site-") if stem.startswith("site-") and end == ".lock" else ""
        with contextlib.suppress(FileNotFoundError):
            if stem in live or site in live or time.time() - os.stat(path).st_mtime < 86400:
                continue
            if site:
                forget_site_lock(site)
            elif end in (".lock", ".gen", ".meta") and (lock := flock(os.path.join(folder, stem + ".lock"), 0)) is not None:
                forget_fence(stem)
                os.close(lock)


def forget_site_lock(key):
    room, _, name = key.rpartition(":")
    with site_lock(key):
        if not os.path.lexists(os.path.join(OURS, room, name) if room else os.path.join(SITES, name)) and not os.path.lexists(os.path.join(OURS, "intent", key)):
            remove(os.path.join(our_folder("fence"), f"site-{key}.lock"))


def site_lock(key):
    """The lock of a site's name (Site.key), held for a moment; the name may be used again
    with another database."""
    return short_lock(os.path.join(our_folder("fence"), f"site-{key}.lock"))
