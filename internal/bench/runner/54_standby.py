# Standbys: copies of a template in sites/.nexus/standby, which are made before anybody asks
# for them. A signup's job claims one: the database becomes that job's, and the folder gets
# the tenant's name. What follows in a claim is done by whoever tries again, or undone by
# drop_site, from any point on: first the intent names the standby, then the register gives
# the database to the job, and from then on all that has this database is the job's.


def keep_record(op, site, source, record):
    """Writes what a standby was copied from, before it is complete."""
    write_json(record_path(site), {"version": record["version"], "template": source.short, "spec": record.get("spec"), "apps": record.get("apps"),
                                   "fingerprint": record["fingerprint"], "installed": record["installed"], "db": op.db, "job": op.owner,
                                   "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def own_standby(op):
    """The operation's standby, which is complete and the owner's."""
    site = site_of(op)
    if site.room != STANDBY:
        raise Refusal("invalid", f"{site.name} was not made as a standby.")
    site.ours(op)
    if not registered(op):
        raise foreign(site)
    return site


def shelve(op):
    site = own_standby(op)
    if site.frozen():
        return {"changed": False}
    if read_object(record_path(site)).get("fingerprint") != bench_fingerprint():
        raise Refusal("conflict", "The bench's apps have changed since the standby's template was made; make another one.")
    fill_caches(site)
    forget_in_redis(op, site, frozen=True, caches=False)
    clear_logs(site)
    os.rename(site.config_path, site.resting_path)
    sync_dir(site.folder)
    return {"changed": True}


def clear_logs(site):
    folder = os.path.join(site.folder, "logs")
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        remove(os.path.join(folder, name))


def standbys(op):
    """Lists the standbys, and sites of their room that are not shelved."""
    out, good, have = [], [], bench_fingerprint()
    for site, record, about in in_room(op, STANDBY):
        row = our_database(op, about["db"]) or {}
        if row.get("present") and (row["job"] != about["job"] or row.get("kind") != STANDBY):
            about["problem"] = "A job has taken it for its site."
        elif not record or not site.frozen():
            about["problem"] = "It is not finished."
        else:
            about["problem"] = outdated(record, have) or ("" if row.get("present") else "Its database is gone.")
        if record:
            about |= {"template": short(record.get("template")), "spec": short(record.get("spec")), "made_at": record.get("made_at"),
                      "apps": [short(app) for app in record.get("apps") or []]}
        out.append(about)
        good += [] if about["problem"] else [site]
    with contextlib.suppress(Refusal):  # without Redis none is warm
        warm = still_warm(good)
        out = [about | {"warm": True} if about["name"] in warm else about for about in out]
    return {"standbys": out}


# --- claims --------------------------------------------------------------------


def claim(op):
    site, source = site_of(op), Site(op.args["standby"], STANDBY)
    if not re.fullmatch(r"[0-9a-f]{32}", text(op.args["maker"])):
        raise Refusal("invalid", f"{site.name} cannot be made from a standby.")
    if claimed(op, site):
        end_claim(op, site, source)
        return {"changed": False}
    why = unusable(op, source)
    if why:
        return turn_down(op, site, why)
    write_claim(op, site, source)
    try:
        call(op, "hand_over", op.db, op.install, op.args["maker"], op.owner)
    except Refusal as e:
        if e.number in MISSING:
            return turn_down(op, site, unprepared(e).message)
        if e.code != "conflict":
            raise
        return turn_down(op, site, f"The standby {source.short} is not on this bench any more, or another job has taken it.")
    settle_warming(op, source)
    if not source.is_whole(op):
        write_json(source.config_path, claimed_config(op, site, source), 0o644)
    give_name(source, site)
    end_claim(op, site, source)
    return {"changed": True}


def claimed(op, site):
    """Whether the site is complete and this owner's already. Refuses a name that is taken."""
    with site_lock(site.key):
        own_intent(op, site)
        if not site.exists():
            return False
        if not site.is_whole(op):
            raise foreign(site) if site.marker() else unmarked(site)
    site.query("SELECT 1")
    return True


def unusable(op, source):
    """Why the standby cannot be claimed, as a sentence; empty: it can. A claim that was ended
    after it wrote the config goes on."""
    record = read_object(record_path(source))
    if not source.exists() or not record:
        return f"There is no standby {source.short} on this bench."
    if record.get("db") != op.db or record.get("job") != op.args["maker"]:
        return f"The standby {source.short} is not the one that was asked for."
    if not source.frozen() and not source.is_whole(op):
        return f"The standby {source.short} is not finished, or another job has taken it."
    why = outdated(record, bench_fingerprint())
    if not why and not opens_database(source.config()):
        why = f"The config of the standby {source.short} does not open its database."
    return why


def turn_down(op, site, why):
    """Ends a claim that has got nothing. One that has got the database fails instead, and
    drop_site removes it."""
    if registered(op):
        raise Refusal("internal", f"The site was made from a standby in part. {why}", op.db)
    forget_name(op, site)
    return {"skipped": True, "note": why}


def other_jobs(op):
    """The answer to a job that wants a standby, or gives one back, which is another job's site
    by now and was changed by it: Redis was restored from a backup. None if it wants anything
    else, or the site is its own."""
    site = site_of(op)
    if op.name not in ("claim", "drop_site") or site.room or site.exists() or registered(op):
        return None
    if op.name == "drop_site":
        return {"changed": forget_intent(op, site)}
    return turn_down(op, site, f"Another job has taken the standby {op.args['standby']}.")


def write_claim(op, site, source):
    """Writes the intent to disk before anything is changed, if the name is free still."""
    wanted = {"job": op.owner, "db": op.db, "standby": source.short, "maker": op.args["maker"]}
    with site_lock(site.key):
        intent = site.intent()
        if site.exists() or intent and intent.get("job") != op.owner:
            raise foreign(site)
        if intent != wanted:
            our_folder("intent")
            write_json(site.intent_path, wanted)


def claimed_config(op, site, source):
    """The config of the site, with all that a request must see: from Frappe 16 on a process
    of the web server keeps the first one that it reads for a minute."""
    resting = source.config()
    config = {name: value for name, value in resting.items() if name not in ("maintenance_mode", "pause_scheduler")}
    config["nexus"] = {"install": op.install, "tenant": site.short, "job": op.owner, "state": "making", "apps": mapping(resting.get("nexus")).get("apps") or [],
                       "madeAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return config | plan_config(op.args["plan"])


def give_name(source, site):
    """Moves the standby's folder to the site's name, if that is free."""
    try:
        rename_new(source.folder, site.folder)
    except FileExistsError:
        raise foreign(site) from None
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        # The file system cannot rename without replacing. All of ours take these locks.
        with site_lock(site.key), site_lock(source.key):
            if os.path.lexists(site.folder):
                raise foreign(site) from None
            os.rename(source.folder, site.folder)
    sync_dir(SITES)
    sync_dir(os.path.dirname(source.folder))


AT_FDCWD, RENAME_NOREPLACE = -100, 1


def rename_new(path, target):
    """Renames a file or folder; FileExistsError if there is something of the new name."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, "there is no renameat2")
    if libc.renameat2(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def end_claim(op, site, source):
    """Removes what the site needs no more, the intent last."""
    for path in (site.resting_path, os.path.join(site.folder, os.path.basename(record_path(source)))):
        remove(path)
    forget_unfinished(site.config_path)
    settle_warming(op, site)
    clear_logs(site)
    forget_intent(op, site)


def settle_claim(op, site):
    """Takes the standby that this owner began to claim, so that it can be removed with the
    rest. If it is another job's by now, or gone, nothing of it is this owner's."""
    intent = site.intent()
    if intent.get("job") != op.owner or intent.get("db") != op.db or "standby" not in intent:
        return
    try:
        call(op, "hand_over", op.db, op.install, text(intent.get("maker")), op.owner)
    except Refusal as e:
        if e.code not in ("conflict", "invalid") and e.number not in MISSING:
            raise


def taken_standbys(op, site):
    """The standbys with this owner's database, which a claim has not moved yet."""
    if site.room:
        return []
    named, names = site.intent().get("standby"), filter(SITE_NAME.match, os.listdir(our_folder(STANDBY)))
    return [each for each in (Site(name, STANDBY) for name in sorted(names))
            if each.config().get("db_name") == op.db or each.short == named and not each.config()]
