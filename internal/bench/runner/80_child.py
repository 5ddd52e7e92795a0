# The child process: it carries out an operation and answers, and others of the same run.

NICE = 10  # of the processes that make a standby; a higher one would leave them too little of a busy machine


class Operation:
    """One operation as it was received, and its child's channel to the parent."""

    def __init__(self, line):
        self.line = line  # as it was received
        self.id, self.name = str(line["id"]), line["op"]
        self.install, self.site, self.room, self.db = line.get("install", ""), line.get("site", ""), line.get("room", ""), line.get("db", "")
        self.owner, self.gen, self.submitted = line.get("owner", ""), int(line.get("gen") or 0), int(line.get("submitted") or 0)
        self.args, self.secrets = line.get("args") or {}, line.get("secrets") or {}
        if not (isinstance(self.name, str) and isinstance(self.args, dict) and isinstance(self.secrets, dict)):
            raise TypeError("malformed operation")
        self.seconds = float(line.get("timeout_s") or 60)
        self.output_limit = int(line.get("output_limit") or 10 << 20)
        self.deadline = Deadline(self.seconds)
        self.out, self.answered = -1, False
        self.has_lock = False  # of the database: its process has carried out an operation of the same run
        self.stays = False     # its process waits for the next operation
        self.first = None      # the connection of go_first, which the process keeps for its calls
        self.hidden = [str(v) for k, v in self.secrets.items() if k != "db_account"]

    def run(self):
        """What operations of one run of a job on one site have in common."""
        return self.install, self.site, self.room, self.db, self.owner, self.gen

    def refills(self):
        """Whether it makes a standby or warms one, for which nobody waits."""
        return self.room == STANDBY and self.name in ("clone", "shelve", "warm")

    def tell(self, frame):
        data = ("\n" + json.dumps({"id": self.id, **frame}) + "\n").encode()  # an app may have written a part of a line
        while data:
            data = data[os.write(self.out, data):]


def check_install(op):
    """Refuses operations on a bench of another install, or of none: a volume is mounted
    late, or the container is the wrong one. The job waits and no attempt is counted;
    without this it would be told that there is no such site."""
    have = installed_id()
    if have == op.install:
        return
    e = Refusal("unavailable", f"This bench belongs to the install {have}, not to {op.install}; is it the right container, and the right Redis?" if have else
                "The bench is not set up for Nexus, or its volume of sites/ is not mounted; mount it, or for a new bench run: nexus bench init")
    e.unbegun = True
    raise e


def perform(op):
    if op.name not in READS and op.name not in WRITES:
        raise Refusal("invalid", "This runner does not know the operation.", op.name)
    if op.room and op.room not in ROOMS:
        raise Refusal("invalid", f"There is no room {op.room} for sites on a bench.")
    if op.room and op.name not in IN_ROOM[op.room] | WHOLE_BENCH:
        raise Refusal("invalid", f"This cannot be done with the {'template' if op.room == TEMPLATES else 'standby'} {op.site}.", op.name)
    if op.name in WRITES and not (OTHER_DB_NAME.fullmatch(op.db) and re.fullmatch(r"[0-9a-f]{32}", op.owner) and (op.gen > 0 or op.name == "warm")):
        raise Refusal("invalid", "The operation lacks its database, owner or token.")
    if op.name not in ANYWHERE:
        check_install(op)
    if op.name in READS:
        return READS[op.name](op)
    try:
        known = bool(DB_NAME.match(op.db)) or bool(our_database(op, op.db))
        if not known and op.name not in ("drop_site", "disown"):  # these may have left the register by now
            raise unregistered(op)
        if op.name == "warm":
            on_shelf(op)  # else it would take the fence from the site that the standby has become
        try:
            fence(op, known=known)
        except Refusal as e:
            if e.outdated and (left := other_jobs(op)):
                return left
            raise
        # An unreachable database server is noticed before the first operation of a process
        # begins, as is a disk without room for the fence.
        if op.name in SESSION:
            if not op.first:
                go_first(op)
        elif not op.has_lock:
            connect(op.secrets["db_account"], op.secrets["db_password"]).close()
    except Exception as e:
        refused = refusal(e)
        refused.unbegun = refused.code == "unavailable"
        raise refused from e
    try:
        result = WRITES[op.name](op)
    except Refusal as e:
        if e.unbegun or e.code in ("invalid", "not_found", "conflict"):  # refused: nothing is left running
            ended_well(op)
        raise
    if result.pop("gone", False):
        with contextlib.suppress(OSError, Refusal):  # else the next inventory removes them
            forget_fence(op.db, op.gen)
            forget_site_lock(site_of(op).key)
    elif op.name in SESSION and in_the_making(op) and not has_children():
        op.stays = True
    else:
        ended_well(op)
    return result


def in_the_making(op):
    """Whether more operations of the same run follow."""
    return site_of(op).marker().get("state") == "making"


def has_children():
    """Whether an operation has left processes, which end with this one."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False


def failure(op, e):
    """The answer of an operation that was refused or failed."""
    error = {"code": e.code, "message": e.message, "detail": redact(str(e.detail), op.hidden)[-4000:]}
    if e.unbegun:
        error["unbegun"] = True
    if e.outdated:
        error["outdated"] = True
    if e.seen is not None:
        error["seen"] = str(e.seen)
    return {"ok": False, "error": error}


def child(op, out, requests):
    """Runs in the forked process; never returns."""
    try:
        while op:
            op.out = out
            watch_database(op)
            try:
                answer = {"ok": True, "result": perform(op)}
            except BaseException as e:
                answer = failure(op, refusal(e))
            op.answered = True
            op.tell({**answer, "stays": op.stays})
            op = following(op, requests) if op.stays else None
    finally:
        os._exit(0)


def following(op, requests):
    """Waits for the run's next operation; none, once the parent has closed the pipe: then this
    one was the last, and has ended well."""
    line = requests.readline()
    if not line.endswith(b"\n"):
        return ended_well(op)
    after = Operation(json.loads(line))
    after.has_lock, after.first = True, op.first
    after.hidden += op.hidden  # what the process has in its memory
    return after


def fork(op, close):
    """Starts a child in a session of its own. Of the parent's descriptors it has only three
    pipes: for its answers, for what it prints, and for the next operations."""
    pipes = []
    try:
        for _ in range(3):
            pipes += os.pipe()
        pid = os.fork()
    except OSError:
        for fd in pipes:
            os.close(fd)
        raise
    answers, out, prints, noise, source, requests = pipes
    if pid:
        for fd in (out, noise, source):
            os.close(fd)
        return pid, answers, prints, requests
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Orphans of the operation's processes become this child's, not the parent's.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for fd in [*close, answers, prints, requests]:
        os.close(fd)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(noise, 1)
    os.dup2(noise, 2)
    for fd in (null, noise):
        if fd > 2:
            os.close(fd)
    if op.refills():
        os.nice(NICE)
    child(op, out, os.fdopen(source, "rb"))
