# Templates: sites in sites/.nexus/templates that new sites are copied from. One is made
# like any site, then frozen. What is on this disk is what counts; the registry only repeats
# it (nexus.Templates in Go).

TEMPLATE_VERSION = 3  # of what a template holds; a worker copies its own only
COPIERS = 2  # sessions that copy the shards of a database; on 2 to 8 cores more were no faster

# Tables of logs, which freezing empties.
LOGS = ("Access Log", "Activity Log", "Comment", "Deleted Document", "Email Queue", "Email Queue Recipient", "Error Log", "Notification Log", "Permission Log", "Route History",
        "Scheduled Job Log", "Version", "View Log")
# Tables of which a template must have no row: each copy would hold the same secret, send
# the same mail, or run the same code.
EMPTY = ("Client Script", "Communication", "Connected App", "Email Account", "OAuth Authorization Code", "OAuth Bearer Token", "OAuth Client", "Server Script",
         "Sessions", "Social Login Key", "Token Cache", "Webhook")
# Other rows that a template must not have.
UNCLEAN = {
    "a user": "SELECT 1 FROM tabUser WHERE name NOT IN ('Administrator', 'Guest', %(user)s) OR IFNULL(api_key, '') <> '' OR name = %(user)s AND enabled LIMIT 1",
    "the social login of a user": "SELECT 1 FROM `tabUser Social Login` WHERE parent <> %(user)s LIMIT 1",
    "a password or an encrypted value": "SELECT 1 FROM __Auth WHERE NOT (doctype = 'User' AND name = 'Administrator' AND fieldname = 'password' AND encrypted = 0) LIMIT 1",
    "a file": "SELECT 1 FROM tabFile WHERE IFNULL(is_folder, 0) = 0 LIMIT 1",
}
# What a copy has of its own in its config.
OWN = ("nexus", "nexus_plan", "db_name", "db_user", "db_password", "encryption_key", "host_name", "maintenance_mode", "pause_scheduler", "monitor")


def record_path(site):
    """The record of a template or a standby."""
    return os.path.join(site.folder, "template.json" if site.room == TEMPLATES else "standby.json")


def freeze(op):
    site = site_of(op)
    if site.room != TEMPLATES:
        raise Refusal("invalid", f"{site.name} was not made as a template.")
    site.ours(op)
    changed = not (our_database(op, op.db) or {}).get("frozen")
    if not site.frozen():
        made_of = site.marker().get("madeOf")
        if made_of != bench_fingerprint():  # a part of its schema may be of the former apps
            raise Refusal("conflict", "The bench's apps changed while the template was built; build it again.")
        size = tidy(site)
        write_json(record_path(site), company_record(site, op.args["spec"]) | user_record(site) | {"version": TEMPLATE_VERSION, "db": op.db, "job": op.owner, "spec": op.args["spec"], "apps": op.args.get("apps") or [],
                                       "installed": site.marker().get("apps"), "fingerprint": made_of, "bytes": size,
                                       "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        os.rename(site.config_path, site.resting_path)
        sync_dir(site.folder)
    try:
        call(op, "freeze_database", op.db, op.install, op.owner)
    except Refusal as e:
        raise unprepared(e) if e.number in MISSING else e from None
    forget_in_redis(op, site, frozen=True)
    return {"changed": changed, "note": text(read_object(record_path(site)).get("no_user"))}


def tidy(site):
    """Empties the logs, refuses what must not be copied, and returns the size of the database
    in bytes."""
    found = [f"the file {path}" for path in files_below(site.folder)]
    with site_cursor(site) as cursor:
        cursor.execute("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE()")
        tables = {row["name"] for row in cursor.fetchall()}
        empty_logs(cursor.execute, tables)
        looks = UNCLEAN | {f"a row of {name}": f"SELECT 1 FROM `tab{name}` LIMIT 1" for name in EMPTY if "tab" + name in tables}
        user = text(mapping(site.marker().get("user")).get("email"))  # of a former attempt
        for what, look in looks.items():
            cursor.execute(look, {"user": user})
            found += [what] if cursor.fetchall() else []
        cursor.execute("SELECT SUM(data_length + index_length) AS size FROM information_schema.tables WHERE table_schema = DATABASE()")
        size = int(cursor.fetchone()["size"] or 0)
    if found:
        raise Refusal("internal", "The template is not clean, so no site is copied from it.", ", ".join(found))
    return size


def files_below(folder):
    """The files of a site that its tenant would own."""
    for part in ("public", "private"):
        for root, _, names in os.walk(os.path.join(folder, part)):
            yield from (os.path.relpath(os.path.join(root, name), folder) for name in names)


# --- what a template depends on ------------------------------------------------


def empty_logs(execute, tables):
    for name in LOGS:
        if "tab" + name in tables:
            execute(f"DELETE FROM `tab{name}`")


def bench_fingerprint():
    """A digest of the apps on the bench's disk: commit, patches and the file with the version
    of each. This process may have imported an app before it was upgraded. A copy of a
    template with another one would run new code on an old schema."""
    import importlib.util

    out = []
    for app in sorted(app_versions()):
        spec = importlib.util.find_spec(app)
        folder = next(iter(spec.submodule_search_locations or []), "") if spec else ""
        out.append([app, commit(os.path.dirname(folder)), *(digest(os.path.join(folder, name)) for name in ("__init__.py", "patches.txt"))])
    return hashlib.sha256(json.dumps(out).encode()).hexdigest()


def commit(folder):
    """The commit of a git checkout; empty if it is none. The program git may be missing."""
    git = os.path.join(folder, ".git")
    head = first_line(os.path.join(git, "HEAD"))
    if not head.startswith("ref: "):
        return head
    ref = head.removeprefix("ref: ")
    with contextlib.suppress(OSError), open(os.path.join(git, "packed-refs"), encoding="utf-8", errors="replace") as f:
        packed = {name.strip(): value for value, _, name in (line.partition(" ") for line in f)}
        return first_line(os.path.join(git, ref)) or packed.get(ref, "")
    return first_line(os.path.join(git, ref))


def first_line(path):
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as f:
        return f.readline().strip()
    return ""


def digest(path):
    with contextlib.suppress(OSError), open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()
    return ""


def problem_of(site, record, have):
    """Why no site is copied from a template, as a sentence; empty if sites are. have is
    the bench's fingerprint."""
    return outdated(record, have) or ended(record) or short(record.get("problem")) if record and site.frozen() else "It is not finished."


def outdated(record, have):
    """Why a template or standby is of no use any more, as a sentence; empty: it is."""
    if record.get("version") != TEMPLATE_VERSION:
        return "It was made by another version of Nexus."
    if record.get("fingerprint") != have:
        return "The bench's apps have changed since it was made."
    return ""


def in_room(op, room):
    """Yields the sites of a room, also those of which there is no more than the intent, with
    their records and what a list tells of each. The register knows the job of a standby
    whose files were lost."""
    keys = [name.partition(":")[2] for name in os.listdir(our_folder("intent")) if name.startswith(room + ":")]
    lost = None
    for name in filter(SITE_NAME.match, sorted({*os.listdir(our_folder(room)), *keys})):
        site = Site(name, room)
        record, intent, config = read_object(record_path(site)), site.intent(), site.config()
        about = {"name": name, "db": short(record.get("db")) or short(config.get("db_name")) or short(intent.get("db")),
                 "job": short(record.get("job")) or short(mapping(config.get("nexus")).get("job")) or short(intent.get("job"))}
        if not about["job"]:
            lost = our_databases(op) if lost is None else lost
            about |= next(({"db": db, "job": row["job"]} for db, row in lost.items() if row["job"] and name.endswith("-" + row["job"][:8])), {})
        yield site, record, about


def templates(op):
    """Lists the templates, and sites of their room that are not frozen."""
    out, have = [], bench_fingerprint()
    for site, record, about in in_room(op, TEMPLATES):
        about["problem"] = problem_of(site, record, have)
        row = our_database(op, about["db"]) if not about["problem"] else {}
        if row is None or row and not row["present"]:
            about["problem"] = "Its database is gone."
        elif row and not row.get("frozen"):
            about["problem"] = "It is not finished."
        if record:
            about |= {"spec": short(record.get("spec")), "version": record.get("version"), "made_at": record.get("made_at"), "bytes": record.get("bytes"),
                      "apps": [short(app) for app in record.get("apps") or []], "stale": record.get("fingerprint") != have, "renew": to_renew(record)}
        out.append(about)
    return {"templates": out}


# --- copies --------------------------------------------------------------------


def clone(op):
    site, source = site_of(op), Site(op.args["template"], TEMPLATES)
    if complete_or_clear(op, site):
        return {"changed": False}
    with held(source) as (record, why):
        if not why:
            try:
                copy(op, source, record, site)
                return {"changed": True}
            except Unusable as e:
                why = str(e)
                sweep(op, site)
    forget_intent(op, site)
    return {"skipped": True, "note": why}


class Unusable(Exception):
    """The template cannot be copied; the text says why."""


@contextlib.contextmanager
def held(source):
    """Keeps a template from being removed, and yields its record and why no site can be
    copied from it; empty: one can."""
    record = read_object(record_path(source))
    db, lock = short(record.get("db")), None
    if DB_NAME.match(db):
        lock = flock(os.path.join(our_folder("fence"), db + ".lock"), 5, shared=True)
    try:
        if lock is None:
            yield record, f"There is no template {source.short} on this bench." if not record else f"The template {source.short} is being changed."
            return
        record = read_object(record_path(source))  # again: it may have been removed meanwhile
        yield record, problem_of(source, record, bench_fingerprint()) if record else f"There is no template {source.short} on this bench."
    finally:
        if lock is not None:
            os.close(lock)


def copy(op, source, record, site):
    resting = source.config()
    ticket = new_database(op, site, password())  # nobody uses this password
    copy_database(op, source, record, ticket)
    fresh = password()
    seal_database(op, ticket, fresh)
    for root, folders, _ in os.walk(source.folder):
        for name in folders:
            os.makedirs(os.path.join(site.folder, os.path.relpath(os.path.join(root, name), source.folder)), exist_ok=True)
    config = {name: value for name, value in resting.items() if name not in OWN} | {"db_name": op.db, "db_password": fresh}
    if "db_user" in resting:
        config["db_user"] = op.db
    write_json(site.config_path, config, 0o644)
    if site.room == STANDBY:
        keep_record(op, site, source, record)
    if "company" in record:
        write_json(placeholders_path(site), record["company"])
    if "user" in record:
        write_json(placeholder_user_path(site), record["user"])
    complete(op, site, op.secrets.get("admin_password") or password(32), [text(app) for app in record["installed"]])


def copy_database(op, source, record, ticket):
    """Copies the template's tables, some in each session, then its views."""
    failed, target = [], (record["db"], op.db, op.install, op.owner, ticket)

    def part(shard):
        try:
            call(op, "clone_database", *target, str(shard), str(COPIERS))
        except Exception as e:
            failed.append(refusal(e))

    sessions = [threading.Thread(target=part, args=(shard,)) for shard in range(1, COPIERS + 1)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    try:
        if failed:
            raise failed[0]
        call(op, "finish_clone", *target)
    except Refusal as e:
        if e.number in MISSING:
            raise Unusable(unprepared(e).message) from None
        if e.code == "internal" and e.number not in (31005, 31006, 1050):  # those are about the copy
            set_aside(source, record, e)
            raise Unusable(f"The template {source.short} is damaged: {e.message}") from None
        raise


def set_aside(source, record, e):
    """Keeps a template that could not be copied from being tried again."""
    with contextlib.suppress(OSError):
        write_json(record_path(source), record | {"problem": f"It could not be copied ({redact(str(e.detail), ())[:200]})."})
