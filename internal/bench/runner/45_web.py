# The bench's web server. While one of its processes uses a config that was replaced
# (config_kept), a closed site still takes writes, and requests to a removed one fail for
# its database. On SIGHUP gunicorn starts new processes and lets the old ones finish their
# requests.


def await_web(op, changed_at):
    """Returns once no process of the web server uses the config that was replaced at
    that time (seconds of the epoch). A web server in another container cannot be
    reloaded: then the caller has to try again when config_kept is over."""
    kept = config_kept()
    left = changed_at + kept - time.time()
    if not kept or left <= 0 or reload_once(op):
        return
    e = Refusal("unavailable", f"The web server may serve the former config of {op.site} for another {left:.0f} s; then this goes on.")
    e.unbegun = True  # so that waiting does not count as an attempt
    raise e


def reload_once(op):
    """Reloads the web server, unless another operation has done so from beginning to end since
    this was called. Each reload makes all tenants' requests slow for a moment, and gunicorn may
    not survive dozens of signals (its log is not reentrant)."""
    asked, done = time.time(), os.path.join(OURS, "web.json")
    lock = flock(os.path.join(OURS, "web.lock"), min(40, op.deadline.left()))
    if lock is None:
        return False
    try:
        began = read_object(done).get("began")
        if type(began) is float and asked <= began <= time.time():
            return True
        began = time.time()
        if not reload_web(op):
            return False
        write_json(done, {"began": began}, durable=False)
        return True
    finally:
        os.close(lock)


def reload_web(op):
    """Reloads the web server and waits until its old processes have ended. Returns
    False if there is none in this container, or its processes do not end."""
    masters = web_masters()
    old = {pid: start_time(pid) for master in masters for pid in descendants(master)}
    for master in masters:
        os.kill(master, signal.SIGHUP)
    end = Deadline(min(40, op.deadline.left()))  # gunicorn kills a process after 30 s
    while masters and any(born and start_time(pid) == born for pid, born in old.items()):
        if end.left() <= 0:
            return False
        time.sleep(0.05)
    return bool(masters)


def web_masters():
    """The pids of gunicorn's master processes that run as our user. An init process or a
    shell that started one has the same words in its command line, but is not Python."""
    tree = parents()
    serving = {pid for pid in tree if b"gunicorn" in (line := command_line(pid)) and b"frappe.app" in line and is_python(pid)}
    return [pid for pid in serving if tree[pid] not in serving and os.stat(f"/proc/{pid}").st_uid == os.getuid()]


def is_python(pid):
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python")
    return False


def command_line(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read()
    return b""
