# The fence at the resource: of two operations on one database the one with the
# higher token wins, and the loser is dead before the winner begins. It is keyed
# by the database, since a rename must not change it.


# How far ahead of the time, in microseconds, a token may be (nexus.GenAhead in Go).
# What is beyond was minted by nobody: it is neither published nor believed.
GEN_AHEAD = 7 * 86400 * 1000000


def plausible(gen):
    return 0 <= gen <= time.time() * 1000000 + GEN_AHEAD


def published(record, field="gen"):
    """A token that a fence's file holds; 0 if it is none of ours."""
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


def flock(path, wait, mode=0o600):
    """Opens and locks a file; None if not in time. The descriptor is inheritable:
    the lock ends with the last descendant. A file that its last holder removed (see
    lock_file_goes) is opened anew, since others lock the one that has taken its place."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, mode)
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
    """Whether an open file is the one that a path leads to."""
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
    """Makes our token the highest seen and names us as its holder. Answers with
    the holder before us. The token is known before anybody is killed for it.

    Jobs on one site follow each other, so once a job has begun to change the site's
    state, each job that was submitted before it is over. One that runs nevertheless
    comes from a backup of Redis, and is refused. The file says which job that was, not
    the marker: the tenant's code may write into the site's config."""
    gen = op.gen
    if not plausible(gen):
        refused = Refusal("unavailable", "The operation's token is far ahead of the bench's clock; set the clocks of the bench and of Redis.", f"gen {gen}")
        refused.unbegun = True
        raise refused
    with short_lock(base + ".meta"):
        before = read_object(base + ".gen")
        if not before and os.path.exists(base + ".gen"):
            before = {"broken": True}  # who held it is unknown: not clean
        seen = published(before)
        if before and not seen:
            before = {**before, "clean": False}  # not one of ours: what it did is unknown
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
        write_json(base + ".gen", me)
        return before


def kill_holder(holder):
    """Ends the operation before ours, if it is surely that one: a pid means
    nothing on another host or after the process has ended. To be called only
    while its lock is held."""
    pid = holder.get("pid")
    if not pid or holder.get("host") != socket.gethostname() or pid == os.getpid():
        return
    if start_time(pid) is not None and start_time(pid) == holder.get("start"):
        kill_tree(pid)


def fence(op, stop_only=False, known=True):
    """Takes the site's database for this operation; the lock ends with the
    process. MariaDB goes on with what a dead client asked of it, so after an
    operation that did not say its last word the database's threads are stopped
    too. Else they are the tenant's own, and live; and of a database that is not
    known to be ours none is stopped."""
    base = os.path.join(our_folder("fence"), op.db)
    holder = publish(base, op)
    lock = flock(base + ".lock", 0)
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
    """Notes that the operation left nothing running. A note that is lost costs the
    next one a look, so it need not reach the disk."""
    base = os.path.join(our_folder("fence"), op.db)
    with contextlib.suppress(OSError), short_lock(base + ".meta"):
        now = read_object(base + ".gen")
        if now.get("pid") == os.getpid() and now.get("gen") == str(op.gen):
            write_json(base + ".gen", {**now, "clean": True}, durable=False)


def forget_fence(db, gen=None):
    """Removes the files of a database that is gone; to be called by who holds its
    lock, with the token he has. A token below the last one is still refused, by the
    register."""
    base = os.path.join(our_folder("fence"), db)
    with short_lock(base + ".meta"):
        if gen is not None and published(read_object(base + ".gen")) != gen:
            return  # somebody newer is there, and waits for us
        forget_unfinished(base + ".gen")
        for end in (".gen", ".lock", ".meta"):
            remove(base + end)


def sweep_fences(live):
    """Removes files of a day or more whose database, or site, is not there any more:
    of operations that found nothing, and of former versions, which removed none."""
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


def forget_site_lock(site):
    with site_lock(site):
        if not os.path.lexists(os.path.join(SITES, site)) and not os.path.lexists(os.path.join(OURS, "intent", site)):
            remove(os.path.join(our_folder("fence"), f"site-{site}.lock"))


def site_lock(site):
    """The short lock of a name: a name may come back under another database."""
    return short_lock(os.path.join(our_folder("fence"), f"site-{site}.lock"))
