# What the bench says of itself.


ROOM = 256 << 20  # bytes on the disk of sites/ below which a bench is not ready


def app_versions():
    out = {}
    with contextlib.suppress(OSError), open(os.path.join(SITES, "apps.txt"), encoding="utf-8") as f:
        for app in f.read().split():
            try:
                out[app] = str(getattr(__import__(app), "__version__", ""))
            except Exception:
                out[app] = ""
    return out


def who():
    """The hello frame of a new connection; the operation hello tells what needs the
    database account as well."""
    return {"protocol": PROTOCOL, "frappe": app_versions().get("frappe", ""), "apps": app_versions(),
            "install": installed_id(), "host": socket.gethostname()}


def hello(op):
    answer, problems = who(), []

    def lacks(what, mend):
        problems.append({"what": what, "mend": mend})

    if answer["frappe"].split(".")[0] not in SUPPORTED:
        lacks(f"Frappe {answer['frappe'] or 'is missing'}; 15 and 16 are supported.", "Use an image of Frappe 15 or 16.")
    client = shutil.which("mariadb") or shutil.which("mysql")
    if not client:
        lacks("The MariaDB client program is missing; new-site needs it.", "Install the package mariadb-client in the image.")
    config = common_config()
    for name in ("redis_cache", "redis_queue"):
        look_at_redis(name, config, lacks)
    if not answer["install"]:
        lacks("The bench is not set up for Nexus.", "Run: nexus bench init")
    elif answer["install"] != op.install:
        lacks(f"The bench belongs to the install {answer['install']}, not to {op.install}.", "Use the Redis that it was set up with, or another bench.")
    if os.path.isdir(OURS) and os.stat(OURS).st_dev != os.stat(SITES).st_dev:
        lacks("sites/.nexus is on another file system than sites/.", "Put it on the volume of sites/: sites are moved by rename.")
    disk = os.statvfs(SITES)
    if disk.f_bavail * disk.f_frsize < ROOM:
        lacks(f"The bench's disk has {disk.f_bavail * disk.f_frsize >> 20} MiB left; a new site takes about 100.", "Make room below sites/.")
    try:
        our_database(op, op.db)  # whether the account is one of this install
        answer["schema"] = schema_version(op)
        answer["database"] = server_version(op)
        if answer["schema"] < SCHEMA_VERSION:
            less = {1: "new sites' databases are not guarded as well, and there are no templates and standbys", 2: "there are no templates and standbys", 3: "there are no standbys",
                    4: "copies of standbys hold up signups"}[answer["schema"]]
            lacks(f"The database's procedures are of version {answer['schema']}, those of this worker are {SCHEMA_VERSION}: it works, but {less}.",
                  "Run: nexus bench init")
        if client and (said := try_client(op, client)):
            lacks(f"The MariaDB client program cannot use the server, and new-site needs it ({said}).",
                  "Give the client its settings in the image's /etc/mysql, or the server what it asks for.")
    except Refusal as e:
        what, _, mend = e.message.partition("; ")
        lacks(f"{what.rstrip('.')} ({e.detail}).", mend[:1].upper() + mend[1:] if mend else "Look whether the database server runs, and whether db_host and db_port are its.")
    try:
        answer["knows"] = knows()
    except Exception as e:
        lacks(f"Frappe's lists of countries, languages and time zones cannot be read ({type(e).__name__}).", "Use an image of Frappe 15 or 16.")
    answer["problems"] = problems
    return {"hello": answer}


def look_at_redis(name, config, lacks):
    if not config.get(name):
        return lacks(f"{name} is not set in common_site_config.json.", f"Run on the bench: bench set-config -g {name} redis://:PASSWORD@HOST:PORT")
    try:
        import redis

        redis.Redis.from_url(config[name], socket_timeout=3, socket_connect_timeout=3).ping()
    except Exception as e:
        lacks(f"{name} does not answer ({type(e).__name__}).", "Start that Redis server, or correct common_site_config.json.")
    # A server without a password refuses a bench that sends one, but runs the commands of
    # a client that does not.
    with contextlib.suppress(Exception):  # a malformed URL: that was told
        if answers_anybody(config[name]):
            lacks(f"The Redis server of {name} takes commands without a password: the admin of any site can write into it by an e-mail template, and so run code on the bench.",
                  f"Give it a password (requirepass), then run on the bench: bench set-config -g {name} redis://:PASSWORD@HOST:PORT, and restart the bench.")


def answers_anybody(url):
    """Whether a Redis server runs commands of a client without a password. One that is
    reached by a socket file does not count: only the bench's own processes can use it."""
    import redis

    known = redis.connection.parse_url(url)
    if "path" in known:
        return False
    for name in ("username", "password", "credential_provider"):
        known.pop(name, None)
    try:
        # Not PING: a server may allow that alone, which does no harm.
        return redis.Redis(connection_pool=redis.ConnectionPool(**{**known, "socket_timeout": 3, "socket_connect_timeout": 3})).exists("rq:queues") in (0, 1)
    except redis.exceptions.RedisError:
        return False


def try_client(op, program):
    """Runs the client program once, as new-site does: it has requirements of its own (one
    of 11.8 refuses a server without TLS). Returns its error, empty if there is none."""
    config, (read, write) = common_config(), os.pipe()
    secret = op.secrets["db_password"].replace("\\", "\\\\").replace('"', '\\"')  # unquoted, a # would begin a comment
    os.write(write, f'[client]\npassword="{secret}"\n'.encode())  # a pipe: neither argv nor a file
    os.close(write)
    try:
        done = subprocess.run([program, f"--defaults-extra-file=/dev/fd/{read}", "-h", config.get("db_host") or "127.0.0.1",
                               "-P", str(config.get("db_port") or 3306), "-u", op.secrets["db_account"], "-e", "SELECT 1"],
                              pass_fds=[read], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, text=True)
        return "" if done.returncode == 0 else done.stderr.strip()[-300:]
    except (OSError, subprocess.TimeoutExpired) as e:
        return type(e).__name__
    finally:
        os.close(read)


def server_version(op):
    db = connect(op.secrets["db_account"], op.secrets["db_password"])
    try:
        # MariaDB from 10 on puts this prefix before its version, for old replicas.
        return db.get_server_info().removeprefix("5.5.5-")
    finally:
        db.close()


def describe(op, site, look, owned):
    """Returns what is known of a site; look maps a database's name to its register row, and
    owned a job to the names of its databases."""
    config, intent = site.config(), site.intent()
    marker = mapping(config.get("nexus"))
    db = short(config.get("db_name")) or short(intent.get("db"))
    row = look(db or op.db) or {}
    job = short(marker.get("job"))
    if db and job and row.get("job") not in (None, "", job):  # another job's: the config was changed
        names = owned(job)
        db = derived_database(op, job) if not names or derived_database(op, job) in names else names[0]
        row = look(db) or {}
    if not db and op.owner and row.get("job") != op.owner:
        row = {}
    info = {"site": site.short, "folder": site.exists(), "db": db, "database": bool(row.get("present")),
            "install": short(marker.get("install")), "job": short(marker.get("job")) or short(intent.get("job")) or (row.get("job") if not db or row else "") or "",
            "state": short(marker.get("state")), "plan": short(mapping(config.get("nexus_plan")).get("name")),
            "apps": [short(app) for app in marker.get("apps", [])[:50] if text(app)] if isinstance(marker.get("apps", []), list) else [],
            "adopted": "adopted" in marker}
    if type(marker.get("stateGen")) is int and 0 < marker["stateGen"] < 2 ** 53 and plausible(marker["stateGen"]):
        info["state_gen"] = marker["stateGen"]
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", short(marker.get("madeAt"))):
        info["made_at"] = marker["madeAt"]
    return info


def derived_database(op, job):
    """The name of a job's own database (nexus.JobID.Database in Go)."""
    return "nx" + op.install + hashlib.sha256(job.encode()).hexdigest()[:20]


def inspect(op):
    info = describe(op, site_of(op), lambda name: our_database(op, name) if OTHER_DB_NAME.fullmatch(name) else None, lambda job: databases_of(op, job))
    if info["state"] and info["database"] and info["db"] and not site_of(op).frozen():
        try:
            rows = site_of(op).query("SELECT name FROM `tabUser` WHERE enabled = 1 AND user_type = 'System User'"
                                       " AND name NOT IN ('Administrator', 'Guest') ORDER BY creation, name")
        except Refusal as e:
            if e.number not in NOT_ITS_OWN:
                raise
            rows = []  # the config was changed; owner and state are known all the same
        info["users"] = len(rows)
        # The first user of a site that we made is its admin; an adopted site's admin is
        # named in its marker.
        names = [row["name"] for row in rows]
        if info["adopted"]:
            names = [name for name in names if name == text(site_of(op).marker().get("email"))]
        info["email"] = names[0] if names else ""
    return {"site": info}


PAGE = 1000  # entries at most: an answer must fit into one line (LINE_LIMIT)


def inventory(op):
    """Lists what is on the bench, page by page: what follows the entry args["after"]."""
    databases = our_databases(op)
    owned = {}
    for name, row in databases.items():
        owned.setdefault(row["job"], []).append(name)
    sweep_fences({*databases, *os.listdir(SITES), *os.listdir(our_folder("intent")), *(f"{room}:{name}" for room in ROOMS for name in os.listdir(our_folder(room)))})
    entries = {f"site/{name}": ("sites", lambda name=name: describe(op, Site(name), databases.get, lambda job: owned.get(job, []))) for name in os.listdir(SITES)
               if SITE_NAME.match(name) and os.path.isfile(os.path.join(SITES, name, "site_config.json"))}
    for name in filter(SITE_NAME.match, os.listdir(our_folder("intent"))):
        entries[f"intent/{name}"] = ("intents", lambda name=name: intended(name))
    for name, row in databases.items():
        entries[f"database/{name}"] = ("databases", lambda name=name, row=row: {
            "name": name, "job": row["job"], "comment": row["comment"], "exists": bool(row["present"]), "users": row["users"],
            "adopted": bool(row["adopted"]), "kind": row.get("kind", "")})
    for folder in folders(op, databases):
        entries[f"folder/{folder['room']}/{folder['name']}"] = ("folders", lambda folder=folder: folder)
    found = {"sites": [], "intents": [], "databases": [], "folders": []}
    names = sorted(name for name in entries if name > op.args.get("after", ""))
    room = LINE_LIMIT // 2
    for i, name in enumerate(names):
        kind, look = entries[name]
        entry = look()
        room -= len(json.dumps(entry))
        if i == PAGE or i and room < 0:
            found["next"] = names[i - 1]
            break
        found[kind].append(entry)
    return {"inventory": found}


def intended(site):
    intent = read_object(os.path.join(OURS, "intent", site))
    return {"site": site, "job": short(intent.get("job")), "db": short(intent.get("db"))}


def folders(op, databases):
    """Lists folders that are no sites: those being removed, and those that Frappe's own
    drop-site archived. A folder in the trash is named after its database."""
    out = []

    def note(room, name, config, db):
        marker = config.get("nexus") if isinstance(config.get("nexus"), dict) else {}
        out.append({"room": room, "name": name, "db": db, "site": short(marker.get("tenant")),
                    "job": short(marker.get("job")) or (databases.get(db) or {}).get("job", "")})

    for name in sorted(os.listdir(our_folder("trash"))):
        config = read_object(os.path.join(OURS, "trash", name, "site_config.json"))
        note("trash", name, config, short(config.get("db_name")) or name.split("-")[0])
    for path, config in archives():
        marker, db = config.get("nexus"), short(config.get("db_name"))
        if isinstance(marker, dict) and marker.get("install") == op.install or db.startswith("nx" + op.install):
            note("archive", os.path.basename(path), config, db)
    return out


def init(op):
    have = installed_id()
    wanted = op.args["install"]
    if have and have != wanted:
        raise Refusal("conflict", f"This bench belongs to the install {have}, not to {wanted}.")
    set_up_database(op)
    for room in ("fence", "intent", "trash"):
        our_folder(room)
    if not have:
        write_json(os.path.join(OURS, "install"), wanted)
    for name in filter(SITE_NAME.match, os.listdir(SITES)):  # made by a former version
        site = Site(name)
        if mapping(read_if_readable(site.config_path).get("nexus")).get("install") == wanted:
            with contextlib.suppress(OSError):  # one site's error must not keep the others from it
                site.close_packages()
    return {"changed": not have}


def stop(op):
    fence(op, stop_only=True)
    return {"changed": False}


READS = {"hello": hello, "templates": templates, "standbys": standbys, "inventory": inventory, "inspect": inspect, "init": init, "register": register, "stop": stop}
WRITES = {"new_site": new_site, "install_app": install_app, "drop_site": drop_site, "ensure_user": ensure_user,
          "apply_plan": apply_plan, "issue_key": issue_key, "mark": mark, "adopt": adopt, "disown": disown, "set_up": set_up, "freeze": freeze, "clone": clone,
          "shelve": shelve, "warm": warm, "claim": claim, "company": company}
# What is done with a template or a standby. A new operation is refused until it is added.
IN_ROOM = {TEMPLATES: {"new_site", "install_app", "set_up", "freeze", "drop_site", "inspect", "stop"}, STANDBY: {"clone", "shelve", "warm", "drop_site", "inspect", "stop"}}
WHOLE_BENCH = {"hello", "inventory", "templates", "standbys"}
# These tell or set which install the bench belongs to, so they run on any.
ANYWHERE = {"hello", "init", "register"}
# What a signup does with its site, within milliseconds of each other. One process does it all,
# since the fork, the lock and Frappe's start take longer than the operations.
SESSION = {"claim", "company", "ensure_user", "apply_plan", "issue_key", "mark"}
SLOW = {"new_site", "install_app", "set_up", "drop_site"}
