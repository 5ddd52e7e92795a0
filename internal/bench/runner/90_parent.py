# The parent process: one loop that never blocks, with a single thread at every fork.
# Only it writes frames, and it enforces the deadlines of all operations.

PING_EVERY, SILENCE = 5.0, 20.0
QUEUE_LIMIT = 1 << 20
LINE_LIMIT = (1 << 20) - (1 << 16)  # bytes of a child's line: the worker reads lines of 1 MiB at most
IDLE = 16  # children that wait at most: twice the slots that a bench has by default
WAIT, EXIT = 1.0, 1.0  # seconds that a child waits for the next operation of its run, and that it may take to exit then


class Running:
    """A child, with the operation that it carries out; none: it waits for the next one."""

    def __init__(self, op, pid, answers, prints, requests):
        self.pid, self.answers, self.prints, self.requests = pid, answers, prints, requests
        self.run, self.db, self.nice, self.lines, self.hidden = op.run(), op.db, op.refills(), b"", []
        self.idle_since, self.dismissed_at = 0.0, None
        self.begin(op)

    def begin(self, op):
        self.op, self.tail, self.printed = op, b"", 0
        self.answer, self.ended_by, self.told = None, None, 0.0
        self.hidden += op.hidden  # a thread of an operation may print later

    def dismiss(self):
        """Has the child exit once it has no operation."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests, self.dismissed_at = -1, time.monotonic()


class Parent:
    def __init__(self, source, frames):
        self.source, self.frames = source, frames
        self.selector = selectors.DefaultSelector()
        self.children, self.waiting = [], []
        self.incoming, self.outgoing = b"", b""
        self.heard = self.pinged = time.monotonic()
        self.stuck_since = None
        self.leaving = False
        cores = os.cpu_count() or 1
        self.lanes = {"slow": max(2, cores), "fast": max(4, 2 * cores)}
        for fd in (source, frames):
            os.set_blocking(fd, False)
        self.selector.register(source, selectors.EVENT_READ, "in")

    # --- frames ---

    def send(self, frame, droppable=False):
        data = (json.dumps(frame) + "\n").encode()
        if droppable and len(self.outgoing) + len(data) > QUEUE_LIMIT:
            return
        self.outgoing += data
        self.flush()

    def flush(self):
        try:
            while self.outgoing:
                self.outgoing = self.outgoing[os.write(self.frames, self.outgoing):]
        except BlockingIOError:
            pass
        except OSError:
            self.leaving = True
        if not self.outgoing:
            self.stuck_since = None
        elif self.stuck_since is None:
            self.stuck_since = time.monotonic()

    def read(self):
        try:
            data = os.read(self.source, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the connection is closed; an incomplete line is dropped
            self.leaving = True
            return
        self.heard = time.monotonic()
        *lines, self.incoming = (self.incoming + data).split(b"\n")
        for line in lines:
            if line.strip():
                self.take(line)

    def take(self, text):
        try:
            line = json.loads(text)
            name = line["op"]
            if name == "ping":
                return self.send({"event": "pong"}, droppable=True)
            if name == "cancel":
                return self.cancel(str(line["id"]))
            op = Operation(line)
            if any(other.id == op.id for other in self.waiting) or self.running(op.id):
                raise ValueError("the id is in use")
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return self.send({"event": "junk"}, droppable=True)
        self.waiting.append(op)
        self.begin()

    # --- operations ---

    def lane(self, op):
        if op.name in SLOW:
            return "slow"
        return None if op.name in READS else "fast"

    def running(self, op_id):
        return next((r for r in self.children if r.op and r.op.id == op_id), None)

    def begin(self):
        """Starts waiting operations, in order of arrival within each lane: more children
        than cores gain nothing. Operations that only read have no lane and never wait. One of
        a run whose child waits for it gets that child; one on the same database of another
        run waits until that child has exited."""
        for op in list(self.waiting):
            lane = self.lane(op)
            busy = sum(1 for r in self.children if r.op and self.lane(r.op) == lane)
            if lane and busy >= self.lanes[lane]:
                continue
            idle = next((r for r in self.idle() if lane and r.db == op.db), None)
            if idle and not self.hand(idle, op):
                idle.dismiss()
                continue
            self.waiting.remove(op)
            if not idle:
                self.start(op)

    def idle(self):
        """The children that wait, the first of them first."""
        return sorted((r for r in self.children if not r.op), key=lambda r: r.idle_since)

    def hand(self, r, op):
        """Gives a child that waits an operation, if it is one of the child's run. A child that
        was just killed from outside may get it too; then it is answered as any that dies."""
        if r.requests < 0 or op.name not in SESSION or r.run != op.run():
            return False
        data = (json.dumps({**op.line, "timeout_s": op.deadline.left() or 1e-3}) + "\n").encode()
        try:
            if os.write(r.requests, data) < len(data):
                return False  # a part is of no use: the line is longer than a pipe holds
        except OSError:
            return False
        r.begin(op)
        return True

    def start(self, op):
        close = [self.source, self.frames, self.selector.fileno()]
        for other in self.children:
            close += [fd for fd in (other.answers, other.prints, other.requests) if fd >= 0]
        try:
            r = Running(op, *fork(op, close))
        except OSError as e:  # too many processes or descriptors; the other operations go on
            for other in self.idle():
                other.dismiss()
            self.send(ending(op, "crowded", str(e)))
            return
        self.children.append(r)
        for fd, kind in ((r.answers, "answers"), (r.prints, "prints")):
            os.set_blocking(fd, False)
            self.selector.register(fd, selectors.EVENT_READ, (kind, r))
        os.set_blocking(r.requests, False)

    def cancel(self, op_id):
        for op in self.waiting:
            if op.id == op_id:
                self.waiting.remove(op)
                return self.send(ending(op, "canceled"))
        if r := self.running(op_id):
            self.end(r, "canceled")

    def end(self, r, why):
        if r.ended_by is None:
            r.ended_by = why
            r.dismiss()
            kill_tree(r.pid)

    def drain(self, r, kind):
        fd = r.answers if kind == "answers" else r.prints
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self.selector.unregister(fd)
            os.close(fd)
            if kind == "prints":
                r.prints = -1
                return
            r.answers = -1
            if r.nice:  # it may take long to exit: reap waits for that
                kill_tree(r.pid)
            else:
                self.over(r)
            return
        if kind == "prints":
            r.tail, r.printed = (r.tail + data)[-65536:], r.printed + len(data)
            if r.op and r.printed > r.op.output_limit:
                self.end(r, "output")
            return
        *lines, r.lines = (r.lines + data).split(b"\n")
        for line in lines:
            if r.op:
                self.relay(r, line)
        if len(r.lines) > LINE_LIMIT:
            self.end(r, "output")

    def relay(self, r, line):
        """Handles one line of a child. Apps that run in the child may write to its pipe
        too, so only known fields are passed on, under this operation's id."""
        try:
            frame = mapping(json.loads(line))
        except (ValueError, RecursionError):
            return
        if frame.get("id") != r.op.id:
            return
        if isinstance(frame.get("ok"), bool):
            r.answer = {name: frame[name] for name in ("ok", "result", "error") if name in frame}
            if frame.get("stays") is True:
                self.keep(r)
        elif frame.get("event") == "progress" and time.monotonic() - r.told >= 0.5:
            r.told, percent = time.monotonic(), frame.get("percent")
            self.send({"id": r.op.id, "event": "progress", "message": redact(text(frame.get("message")), r.hidden),
                       "percent": percent if type(percent) is int else -1}, droppable=True)

    def keep(self, r):
        """Sends the answer of a child that now waits for the next operation of its run."""
        self.send({"id": r.op.id, **r.answer})
        r.op, r.idle_since = None, time.monotonic()
        for other in self.idle()[:-IDLE]:
            other.dismiss()
        self.begin()

    def over(self, r):
        """Ends an operation whose child has answered or exited, kills what is left of its
        processes, and sends the answer."""
        kill_tree(r.pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(r.pid, 0)
        self.children.remove(r)
        # If the child had exited before, its orphans are our children now.
        end_children({other.pid for other in self.children})
        for fd in (r.answers, r.prints):
            if fd >= 0:
                self.selector.unregister(fd)
                os.close(fd)
        r.dismiss()
        if r.op and r.answer is not None:
            self.send({"id": r.op.id, **r.answer})
        elif r.op:
            self.send(ending(r.op, r.ended_by or "died", redact(r.tail.decode(errors="replace"), r.hidden)))
        self.begin()

    # --- time ---

    def tick(self):
        now = time.monotonic()
        if now - self.heard > SILENCE or (self.stuck_since and now - self.stuck_since > SILENCE):
            self.leaving = True
        if now - self.pinged >= PING_EVERY:
            self.pinged = now
            self.send({"event": "ping"}, droppable=True)
        for r in self.children:
            if r.op and r.op.deadline.left() <= 0:
                self.end(r, "timeout")
            elif not r.op and r.dismissed_at is None and now - r.idle_since > WAIT:
                r.dismiss()
            elif not r.op and r.dismissed_at is not None and now - r.dismissed_at > EXIT:
                self.end(r, "timeout")
        for op in [op for op in self.waiting if op.deadline.left() <= 0]:
            self.waiting.remove(op)
            self.send(ending(op, "timeout"))

    def reap(self):
        """Reaps children and adopted orphans that have exited. An operation is over when
        its child exits, even if a process that the child forked keeps its pipes open."""
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                r = next((r for r in self.children if r.pid == found.si_pid), None)
                if r is None:
                    os.waitpid(found.si_pid, 0)
                    continue
                if r.answers >= 0:
                    self.drain(r, "answers")  # the last answer: one read takes all that a pipe holds
                if r in self.children:
                    self.over(r)

    def loop(self):
        self.send({"event": "hello", **who()})
        while not self.leaving:
            if self.outgoing:
                self.flush()
            for key, _ in self.selector.select(0.1 if self.children or self.outgoing else 1.0):
                if key.data == "in":
                    self.read()
                elif key.data[1] in self.children:
                    self.drain(key.data[1], key.data[0])
            self.tick()
            self.reap()
        end_children()


def end_children(spared=()):
    """Kills all our children except those spared, until there are none: orphans of an
    operation become our children, and may fork meanwhile."""
    for _ in range(10):  # bounded: a process that cannot be killed must not block the loop
        found = [pid for pid, parent in parents().items() if parent == os.getpid() and pid not in spared]
        for pid in found:
            kill_tree(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not found:
            return
        time.sleep(0.01)


def ending(op, why, detail=""):
    code, message = {
        "canceled": ("canceled", "The operation was ended before it was done."),
        "timeout": ("timeout", "The operation took longer than it may."),
        "output": ("internal", "The operation wrote more than it may."),
        "died": ("unavailable", "The operation's process was killed from outside."),
        "crowded": ("unavailable", "The bench cannot start another process just now."),
    }[why]
    error = {"code": code, "message": message, "detail": detail[-4000:]}
    return {"id": op.id, "ok": False, "error": {**error, "unbegun": True} if why == "crowded" else error}


# What the operations of a signup import.
PRELOADED = ("pymysql.cursors", "MySQLdb.connections", "MySQLdb.constants.CLIENT", "MySQLdb.cursors", "redis", "logging.handlers", "zoneinfo", "frappe.database.mariadb.database",
             "frappe.database.mariadb.mysqlclient", "frappe.database.mariadb.schema", "frappe.database.query", "frappe.geo.country_info", "frappe.utils.logger", "frappe.utils.momentjs",
             "frappe.utils.password", "frappe.utils.redis_wrapper")


def warm_up():
    """Imports, once for all children, what takes each of them a second, and fills the caches
    of libraries."""
    for name in PRELOADED:
        with contextlib.suppress(Exception):  # some are in one version of Frappe only, and none is needed yet
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        from cryptography.fernet import Fernet
        from frappe.utils.password import passlibctx

        usable_zone("UTC")
        passlibctx.hash("")
        Fernet(Fernet.generate_key()).encrypt(b"")
    gc.collect()
    gc.freeze()  # a child's collector would write to the pages that it shares with its parent


def main():
    # Frames are written to a descriptor of our own: Frappe prints to standard output, and
    # so may anything that it imports.
    source, frames = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent = Parent(source, frames)

    def leave(*_):
        parent.leaving = True

    signal.signal(signal.SIGTERM, leave)
    warm_up()
    parent.heard = time.monotonic()
    parent.loop()
    os._exit(0)


main()
