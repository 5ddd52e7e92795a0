# The bench's web server. As long as one of its processes serves a site by a config
# that was replaced (config_kept), a site that was closed takes writes, and one that was
# removed is asked for its database. gunicorn starts its processes anew on HUP, and lets
# requests finish.


def await_web(op, changed_at):
    """Returns once no process of the web server serves the config that was replaced
    at that time (of the epoch). A web server in another container than ours is out
    of reach: then its memory has to run out, and the operation is to be asked again."""
    kept = config_kept()
    left = changed_at + kept - time.time()
    if not kept or left <= 0 or reload_web(op):
        return
    e = Refusal("unavailable", f"The web server may serve the former config of {op.site} for another {left:.0f} s; then this goes on.")
    e.unbegun = True  # what was begun is done, and this costs no attempt
    raise e


def reload_web(op):
    """Starts the web server's processes anew and waits for the end of the old ones.
    False: there is no web server in this container, or its processes do not end."""
    masters = web_masters()
    old = {pid: start_time(pid) for master in masters for pid in descendants(master)}
    for master in masters:
        os.kill(master, signal.SIGHUP)
    end = Deadline(min(40, op.deadline.left()))  # gunicorn ends who has not finished in 30 s
    while masters and any(born and start_time(pid) == born for pid, born in old.items()):
        if end.left() <= 0:
            return False
        time.sleep(0.05)
    return bool(masters)


def web_masters():
    """The pids of gunicorn's first processes, if they are our user's. An init process
    or a shell that started it has the same words in its command line, but is not Python."""
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
