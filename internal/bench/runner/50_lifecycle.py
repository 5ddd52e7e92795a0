# A site's life cycle: made, given apps, closed and opened, dropped.


def new_site(op):
    site = site_of(op)
    if complete_or_clear(op, site):
        return {"changed": False}
    made_of = bench_fingerprint() if site.room else ""
    first = password()
    ticket = new_database(op, site, first)
    admin = op.secrets.get("admin_password") or password(32)
    # The first password shows in argv, so it is replaced afterwards.
    code, tail = frappe_cli(op, "new-site", site.name, "--no-setup-db", "--db-name", op.db, "--db-password", first,
                            lines=(admin, admin))
    if code != 0 or site.config().get("db_name") != op.db:
        raise cli_error("new-site", code, tail)
    last_password(op, site, ticket)
    apps = site.apps()
    if apps != ["frappe"]:
        raise Refusal("internal", "The new site is not complete.", f"installed apps: {apps}\n{tail}")
    complete(op, site, admin, ["frappe"], made_of)
    return {"changed": True}


def complete_or_clear(op, site):
    """Returns True if the site is complete already. Else it writes the intent, and removes
    what a former attempt, or a sweep that was killed, has left."""
    if write_intent(op, site):
        if not site.is_whole(op):
            raise foreign(site)
        if not site.frozen():
            site.query("SELECT 1")  # must work: the marker is written after the last password
        remove(site.intent_path)  # left if a crash came right after the marker
        return True
    if site.exists() or our_database(op, op.db) or trashed(op):
        sweep(op, site)
        write_intent(op, site)
    return False


def new_database(op, site, secret):
    try:
        return make_database(op, secret)
    except Refusal as e:
        if e.code == "fenced":  # the site was removed meanwhile; its name must become free
            forget_intent(op, site)
        raise


def complete(op, site, admin, apps, made_of=""):
    """Ends the making of a site: its marker says that it is complete. made_of is the
    fingerprint of the bench that a template is made on."""
    site.close_packages()
    set_administrator(site, admin)
    with site_lock(site.key), site.locked_config() as config:
        config["nexus"] = {"install": op.install, "tenant": site.short, "job": op.owner, "state": "making",
                           "madeAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "apps": apps}
        if made_of:
            config["nexus"]["madeOf"] = made_of
        if "encryption_key" not in common_config():
            give_encryption_key(config)
    remove(site.intent_path)


def last_password(op, site, ticket):
    """Sets the database's last password, which seals it. After a crash before it is in
    the config, a retry makes the site anew, since it has no marker yet."""
    fresh = password()
    seal_database(op, ticket, fresh)
    with site.locked_config() as config:
        config["db_password"] = fresh


def set_administrator(site, admin):
    """Sets Administrator's password. new-site takes admin_password of the common config,
    if there is one, whatever it is told (installer.py, install_db): then all sites would
    have the same."""
    with frappe_site(site) as frappe:
        from frappe.utils.password import check_password, update_password

        update_password("Administrator", admin)
        frappe.db.commit()
        check_password("Administrator", admin)


def install_app(op):
    site = site_of(op).ours(op)
    app = op.args["app"]
    with open(os.path.join(SITES, "apps.txt"), encoding="utf-8") as f:
        known = f.read().split()
    if app not in known:
        if op.args.get("optional"):
            return {"skipped": True}
        raise Refusal("not_found", f"The app {app} is not on this bench.")
    if app in site.marker().get("apps", []):
        return {"changed": False}
    # "Already installed" is exit 0 for a half-installed app too, and a plain retry of
    # one fails with a duplicate: only our marker tells that an app is complete.
    force = op.args.get("force") or app in site.apps() or half_installed(site, app)
    code, tail = frappe_cli(op, "--site", site.name, "install-app", app, *(["--force"] if force else []))
    if code != 0 or app not in site.apps() or "An error occurred while installing" in tail:
        raise cli_error("install-app", code, tail)
    with site.locked_config() as config:
        config["nexus"].setdefault("apps", ["frappe"]).append(app)
    return {"changed": True}


def half_installed(site, app):
    return bool(site.query("SELECT 1 FROM `tabModule Def` WHERE app_name = %s LIMIT 1", app))


def mark(op):
    state = op.args["state"]
    closing = state != "active"
    site = site_of(op).ours(op, to_close=closing)
    site.close_packages()
    if not closing:
        forget_placeholder(site)
        settle_warming(op, site)  # a worker of a former version may have claimed it
    with site.locked_config() as config:
        marker = config["nexus"] = mapping(config.get("nexus"))
        changed = marker.get("state") != state
        if changed and marker.get("state") == "active":
            # Only now the adoption cannot be undone any more: a job may still be canceled
            # after it has opened the site.
            mapping(marker.get("adopted")).pop("key", None)
        marker["state"], marker["stateGen"] = state, op.submitted or op.gen  # the doctor compares it with the registry's
        if closing:  # the tenant's code may have written another owner there
            marker.update(install=op.install, tenant=site.name, job=op.owner)
        closed = bool(config.get("maintenance_mode"))
        for switch in ("maintenance_mode", "pause_scheduler"):
            if closing:
                config[switch] = 1
            else:
                config.pop(switch, None)
        if closed != closing:
            marker["switchedAt"] = time.time()
        switched_at = past_time(marker.get("switchedAt"))
    await_web(op, switched_at)
    if site.intent().get("job") == op.owner:
        remove(site.intent_path)
    return {"changed": changed}


def past_time(value):
    """A time in a site's config, in seconds of the epoch; 0 if there is none. A value that
    is no time in the past counts as now, which is the longest wait."""
    if value is None:
        return 0
    now = time.time()
    if type(value) in (int, float) and 0 <= value <= now:
        return value
    return now


def drop_site(op):
    site = site_of(op)
    settle_claim(op, site)
    changed, gone = sweep(op, site, last=True), our_database(op, op.db) is None
    if not gone:  # a standby that this owner has not got; its name's lock goes all the same
        with contextlib.suppress(OSError, Refusal):
            forget_site_lock(site.key)
    return {"changed": changed, "gone": gone}


def sweep(op, site, last=False):
    """Removes what marker, intent or register give to this owner, each independently;
    another owner's folder is left alone. The intent is removed last, and only if the site
    will not be made anew."""
    row, derived = our_database(op, op.db), bool(DB_NAME.match(op.db))
    found = row is not None and row["job"] == op.owner
    if row and not found and (site.room == STANDBY or not (site.exists() and site.belongs_to(op))):
        return last and forget_name(op, site)  # the database is another job's, and so is all that has it
    other = shared_with(site, op.db) if found or derived else ""
    if other:  # a copy or a new name of the folder: its data must not be removed
        raise Refusal("conflict", f"The site {other} uses the database of {site.name} too; nothing was removed.", op.db)
    site.restore_permissions(op)
    with site_lock(site.key):
        if os.path.islink(site.folder) and os.path.isdir(site.folder) and site.belongs_to(op):
            raise Refusal("unavailable", f"sites/{site.name} is a link, and what it leads to would stay; move that folder to the link's place, and try again.", os.readlink(site.folder))
        if found and os.path.islink(site.folder) and not os.path.exists(site.folder):
            os.remove(site.folder)
        if found and os.path.isdir(site.folder) and not os.access(site.folder, os.R_OK | os.X_OK):
            raise refused_as(ERRNOS[errno.EACCES], site.folder)  # else it would count as another owner's, and stay
        if site.exists() and site.belongs_to(op):
            if not found and (row or not derived):
                raise unregistered(op)  # before the folder is removed: its database could not be dropped
            found = True
            if not site.room:
                with contextlib.suppress(Refusal, OSError), site.locked_config() as config:
                    if config:
                        config["maintenance_mode"] = 1
            throw_away(op, site)
        elif found and os.path.lexists(site.config_path) and not isinstance(read_json(site.config_path), dict):
            # Only the database tells whose folder it is, so it must not be dropped alone.
            raise Refusal("unavailable", f"The config of {site.name} holds nothing that can be read; nothing was removed. "
                          "Put site_config.json back, or move the folder away, and try again.", site.config_path)
        elif site.config().get("db_name") == op.db:
            return found  # another owner's site uses this database now
    for standby in taken_standbys(op, site) if found and row else ():
        throw_away(op, standby)
    # A request by a kept config would find no database; a thread of Frappe 16 to which
    # that happens fails the next new sites (its frappe.local.db stays set).
    if not site.room:
        await_web(op, max((os.stat(folder).st_ctime for folder in trashed(op) if was_served(folder)), default=0))
    if row or derived:
        drop_database(op, last)
    found = forget_in_redis(op, site) or found
    for folder in trashed(op):
        remove(folder)
    for folder in archived(op, site):
        found = True
        remove(folder)
    if our_database(op, op.db) or (site.exists() and site.belongs_to(op)):
        raise Refusal("unavailable", "Something of the site is still there.", site.name)
    return last and forget_intent(op, site) or found


def throw_away(op, site):
    """Moves a site's folder to the trash, whose folders are named after their database."""
    os.rename(site.folder, os.path.join(our_folder("trash"), f"{op.db}-{op.gen}-{os.getpid()}{'-' * bool(site.room)}{site.room}"))
    sync_dir(os.path.dirname(site.folder))


def forget_name(op, site):
    """Removes the intent, and what its lock left if the name is free now."""
    found = forget_intent(op, site)
    forget_site_lock(site.key)
    return found


def forget_intent(op, site):
    forget_unfinished(site.intent_path)
    intent = site.intent()
    if intent.get("job") != op.owner:
        return False
    if "standby" in intent:
        forget_site_lock(Site(intent["standby"], STANDBY).key)
    remove(site.intent_path)
    return True


def shared_with(site, db):
    """The name of another folder below sites/ that uses the same database; empty if
    there is none. Its config must have the password, not only the name."""
    for other in sorted(os.listdir(SITES)):
        path = os.path.join(SITES, other)
        if other == site.name or os.path.realpath(path) == os.path.realpath(site.folder):
            continue
        config = read_if_readable(os.path.join(path, "site_config.json"))
        if config.get("db_name") == db and opens_database(config):
            return other
    return ""


def trashed(op):
    return [os.path.join(OURS, "trash", name) for name in os.listdir(our_folder("trash")) if name.startswith(op.db + "-")]


def was_served(folder):
    """Whether a folder in the trash was a complete site: only those got requests."""
    return "nexus" in read_if_readable(os.path.join(folder, "site_config.json"))


def archived(op, site):
    """The folders of this site that Frappe's own drop-site moved to its archive, where it
    keeps them for ever."""
    out = []
    for path, config in archives():
        if os.path.basename(path).startswith(site.name) and config.get("db_name") == op.db:
            out.append(path)
    return out


def archives():
    for root in (os.path.join(BENCH, "archived", "sites"), os.path.join(BENCH, "archived_sites")):
        for name in sorted(os.listdir(root)) if os.access(root, os.R_OK | os.X_OK) else ():
            yield os.path.join(root, name), read_if_readable(os.path.join(root, name, "site_config.json"))


def redis_servers():
    import redis

    config = common_config()
    urls = dict.fromkeys(config[name] for name in ("redis_cache", "redis_queue") if config.get(name))
    return [redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5) for url in urls]


# RQ's keys of one job, and its sorted sets of jobs by what became of them.
JOB_KEYS = ("job", "results", "execution", "executions")
JOB_SETS = (b"rq:finished:*", b"rq:failed:*", b"rq:wip:*", b"rq:deferred:*", b"rq:scheduled:*", b"rq:canceled:*")


def forget_in_redis(op, site, frozen=False, caches=True):
    """Deletes cached keys (prefix db|) and, of a site that is gone or frozen, queued jobs
    (SITE::id, from Frappe 16 on SITE||id). No command of Frappe does; a job of a dropped
    site would fail for ever, or run on the next site of that name."""
    import redis

    named = frozen or not site.exists()  # else the jobs of that name are the new owner's
    ids = (f"{site.name}::", f"{site.name}||")
    patterns = [f"{op.db}|*"] * caches + [f"rq:{kind}:{each}*" for each in ids for kind in JOB_KEYS if named]
    found, prefix = False, tuple(each.encode() for each in ids)
    try:
        for server in redis_servers():
            for pattern in patterns:
                keys = list(server.scan_iter(pattern, count=1000))
                if keys:
                    found = bool(server.delete(*keys)) or found
            for queue in server.scan_iter("rq:queue:*", count=1000) if named else ():
                for job in server.lrange(queue, 0, -1):
                    if job.startswith(prefix):
                        server.lrem(queue, 0, job)
            for kind in JOB_SETS if named else ():
                for registry in server.scan_iter(kind, count=1000):
                    gone = [m for m in server.zrange(registry, 0, -1) if m.startswith(prefix)]
                    if gone:
                        server.zrem(registry, *gone)
    except redis.exceptions.RedisError as e:
        raise Refusal("unavailable", "The bench's Redis cannot be reached.", str(e)) from None
    return found
