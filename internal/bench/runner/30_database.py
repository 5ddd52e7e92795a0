# Access to MariaDB: as the worker's account, through the procedures of 25_schema.py,
# and as root where an operator gave its password.


GREETING = 6  # seconds that MariaDB may take to log a client in


def connect(user, secret, database=None):
    """Opens a connection in this child. The parent never has one: a child that closes
    an inherited connection closes it for all."""
    import pymysql

    config = common_config()
    # A server whose process is stopped (SIGSTOP) still accepts connections, but never
    # sends its greeting: hence the timeouts.
    options = {"host": config.get("db_host") or "127.0.0.1", "port": int(config.get("db_port") or 3306), "user": user, "password": secret, "database": database,
               "autocommit": True, "charset": "utf8mb4", "ssl": tls(config), "connect_timeout": GREETING, "read_timeout": GREETING, "write_timeout": GREETING,
               "cursorclass": pymysql.cursors.DictCursor}
    try:
        db = pymysql.connect(**options)
        with db.cursor() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = 30")
        db._read_timeout = None  # a statement may take long; watch_database notices a dead server
        return db
    except pymysql.err.MySQLError as e:
        raise wants_tls(e, options) or database_error(e) from None


def wants_tls(e, options):
    """The Refusal for a server that demands TLS of this user, else None. MariaDB answers
    a client without TLS as one with a wrong password (1045); a try with TLS tells them
    apart."""
    import pymysql

    if e.args[:1] != (1045,) or options["ssl"]:
        return None
    try:
        pymysql.connect(**{**options, "ssl": {"check_hostname": False, "verify_mode": "none"}}).close()
    except pymysql.err.MySQLError:
        return None
    return refused_as(TLS, f"MariaDB 1045: {e.args[1]}; over TLS it lets {options['user']} in")


def watch_database(op):
    """Ends the operation once MariaDB no longer answers logins: a server whose process is
    stopped keeps its connections open, and Frappe would wait on one until the step's
    timeout."""
    def watch():
        silent = 0
        while silent < 3:
            time.sleep(5)
            if op.answered:
                return
            began = time.monotonic()
            with contextlib.suppress(Refusal):
                connect(op.secrets["db_account"], op.secrets["db_password"]).close()
            silent = silent + 1 if time.monotonic() - began >= GREETING else 0
        if op.answered:
            return
        op.tell(failure(op, refused_as(BUSY, "MariaDB lets nobody in")))
        os._exit(0)

    if op.secrets.get("db_account"):
        threading.Thread(target=watch, daemon=True).start()


def tls(config):
    """The TLS options as Frappe takes them from the config; None: no TLS. 15 needs all
    three files, 16 only the authority's; the host name is checked only on demand."""
    if not config.get("db_ssl_ca"):
        return None
    out = {"ca": config["db_ssl_ca"], "check_hostname": bool(config.get("db_ssl_check_hostname"))}
    if config.get("db_ssl_cert") and config.get("db_ssl_key"):
        out.update(cert=config["db_ssl_cert"], key=config["db_ssl_key"])
    return out


def call(op, procedure, *arguments):
    """Calls one of our procedures as the worker's account."""
    import pymysql

    db = op.first or connect(op.secrets["db_account"], op.secrets["db_password"])
    try:
        with db.cursor() as cursor:
            cursor.callproc(f"nexus.{procedure}", arguments)
            return cursor.fetchall() if cursor.description else []
    except pymysql.err.MySQLError as e:
        raise database_error(e) from None
    finally:
        if db is not op.first:
            db.close()


def go_first(op):
    """Opens the connection that the process keeps; until it is closed, copies of standbys wait."""
    op.first = connect(op.secrets["db_account"], op.secrets["db_password"])
    try:
        call(op, "go_first")
    except Refusal as e:
        if e.number not in MISSING:
            raise


MISSING = (1305, 1370)  # no such procedure, or no EXECUTE on it: nexus bench init has to run again


def unprepared(e):
    """The Refusal for procedures that the database lacks; unlike SET_UP it does not make a
    job wait, since sites can be made without them."""
    return Refusal("invalid", "The bench's database is not prepared for templates and standbys; run: nexus bench init", e.detail)


def call_either(op, new, old):
    """Calls a procedure of this version, or the former version's where nexus bench init
    has not run since."""
    try:
        return call(op, *new)
    except Refusal as e:
        if e.number not in MISSING:
            raise
    return call(op, *old)


def schema_version(op):
    """The version of the installed procedures; 1: from before they had one."""
    rows = call_either(op, ("version",), ("list_databases", op.install))
    return rows[0].get("version", 1) if rows else 1


def stop_threads(op):
    call(op, "stop_threads", op.db, op.install)


def our_databases(op):
    return {row["name"]: row for row in call(op, "list_databases", op.install)}


def our_database(op, name):
    """The register's row of one database, or None."""
    rows = call_either(op, ("look_database", op.install, name), ("list_databases", op.install))
    return next((row for row in rows if row["name"] == name), None)


def databases_of(op, job):
    """The names of a job's databases in the register, the oldest first; none where root has
    not run nexus bench init since there is such a list."""
    try:
        return [row["name"] for row in call(op, "find_database", op.install, job)]
    except Refusal as e:
        if e.number not in MISSING:
            raise
    return []


def native_hash(secret):
    """A password as MariaDB stores it. It is sent hashed, since statements show in the
    process list."""
    return "*" + hashlib.sha1(hashlib.sha1(secret.encode()).digest()).hexdigest().upper()


def make_database(op, secret):
    """Makes the database and returns the ticket for seal_database; empty: the former
    version's procedures, which have none."""
    name = op.db, op.install, op.owner, str(op.gen)
    if op.room:
        try:
            return call(op, {TEMPLATES: "create_template", STANDBY: "create_standby"}[op.room], *name, native_hash(secret))[0]["ticket"]
        except Refusal as e:
            raise unprepared(e) if e.number in MISSING else e from None
    rows = call_either(op, ("create_database", *name, native_hash(secret)), ("make_database", *name, secret))
    return rows[0]["ticket"] if rows else ""


def seal_database(op, ticket, secret):
    name = op.db, op.install, op.owner
    if ticket:
        call(op, "seal_database", *name, ticket, native_hash(secret))
    else:
        call(op, "set_password", *name, secret)


def drop_database(op, last):
    """Drops the database. No lower token can make it again; if this is the last word,
    nor can this one."""
    name = op.db, op.install, op.owner
    call_either(op, ("remove_database", *name, str(op.gen + int(last))), ("drop_database", *name))


def connect_root(op):
    try:
        return connect(op.args.get("root_user") or "root", op.secrets["root_password"])
    except Refusal as e:
        if e.number == 1045:
            raise Refusal("invalid", "The database refused the root password; check it and run this again.", e.detail) from None
        raise


def set_up_database(op):
    """Installs procedures, register and account, as root; idempotent."""
    import pymysql

    account = op.args["account"]
    if not re.fullmatch(r"[A-Za-z0-9_]{1,32}", account):
        raise Refusal("invalid", "The account's name must be letters, digits and underscores.")
    if account in (op.args.get("root_user"), "root", "mysql"):
        raise Refusal("invalid", "The worker's account must be one of its own: its password is set, and the administrator's must not be.")
    db = connect_root(op)
    try:
        with db.cursor() as cursor:
            install_schema(cursor)
            user = f"'{account}'@'%'"
            for statement in (f"CREATE USER IF NOT EXISTS {user}", f"ALTER USER {user}"):
                cursor.execute(statement.replace("%", "%%") + " IDENTIFIED BY %s", (op.secrets["account_password"],))
            cursor.execute("INSERT IGNORE INTO nexus.accounts (account, install) VALUES (%s, %s)", (account, op.args["install"]))
            for procedure in GRANTED:
                cursor.execute(f"GRANT EXECUTE ON PROCEDURE nexus.{procedure} TO {user}")
    except pymysql.err.MySQLError as e:
        refused = database_error(e)
        if refused.code == "internal" or refused.number in (1044, 1045, 1142, 1227):
            refused = Refusal("invalid", "The database server refused the set-up; is this really its administrator?", refused.detail)
        raise refused from None
    finally:
        db.close()
