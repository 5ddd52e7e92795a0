# Calls on MariaDB: as the worker's account, by the procedures of 25_schema.py, and
# as root where an operator gave its password.


def connect(user, secret, database=None):
    """One connection of the child's own; the parent never holds any, since a
    child that closes an inherited one kills it for all."""
    import pymysql

    config = common_config()
    try:
        db = pymysql.connect(host=config.get("db_host") or "127.0.0.1", port=int(config.get("db_port") or 3306),
                             user=user, password=secret, database=database, autocommit=True, charset="utf8mb4",
                             connect_timeout=10, cursorclass=pymysql.cursors.DictCursor)
        with db.cursor() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = 30")
        return db
    except pymysql.err.MySQLError as e:
        raise database_error(e) from None


THEFT = "Who has the workers' database account? Change NEXUS_DB_PASSWORD, then run: nexus bench init"
MISSING = (1305, 1370)  # no such procedure, or no right to it: root has to run bench init again


def database_error(e):
    refused = sorted_error(e)
    refused.number = e.args[0] if e.args else 0
    return refused


def sorted_error(e):
    number = e.args[0] if e.args else 0
    detail = f"MariaDB {number}: {e.args[1] if len(e.args) > 1 else e}"
    if number in (31001,):
        return Refusal("invalid", "The database's name is not one of ours.", detail)
    if number in (31002,):
        return Refusal("conflict", "The database was not made by this job; it was left alone.", detail)
    if number == 31006:
        return Refusal("internal", "Somebody else made or changed the site's database while it was made. " + THEFT, detail)
    if number == 31007:  # the owner has a new token minted, if it is the owner still
        return Refusal("fenced", "The site was removed meanwhile.", detail, int(re.search(r"\d+$", detail).group()) - 1)
    if number == 31008:
        return Refusal("internal", "Somebody left in the site's new database what runs by itself, or rights of their own; it is not used. " + THEFT, detail)
    if number in (31005,):  # a retry makes the site anew
        return Refusal("internal", "The site's database has its last password already; it cannot be changed any more.", detail)
    if number in (31004, 1045, 1044, 1370, 1305, 1318, 1049):
        return Refusal("unavailable", "The worker's database account is not set up; run: nexus bench init", detail)
    return outage(number, detail)


# Errors of MariaDB that pass by themselves: it is away, or somebody is in the way.
AWAY, LOCKED = (2002, 2003, 2006, 2013, 1040), (1205, 1213, 31003)


def outage(number, detail):
    message = "Somebody else holds a lock in the database." if number in LOCKED else "The database server cannot be used just now."
    return Refusal("unavailable", message, detail)


def call(op, procedure, *arguments):
    """Calls one of our procedures as the worker's account."""
    import pymysql

    db = connect(op.secrets["db_account"], op.secrets["db_password"])
    try:
        with db.cursor() as cursor:
            cursor.callproc(f"nexus.{procedure}", arguments)
            return cursor.fetchall() if cursor.description else []
    except pymysql.err.MySQLError as e:
        raise database_error(e) from None
    finally:
        db.close()


def call_either(op, new, old):
    """Calls a procedure of this version, or in its place one of the former, where
    root has not run bench init since."""
    try:
        return call(op, *new)
    except Refusal as e:
        if e.number not in MISSING:
            raise
    return call(op, *old)


def schema_version(op):
    """The version of the procedures that are there; 1: from before there was any."""
    rows = call_either(op, ("version",), ("list_databases", op.install))
    return rows[0].get("version", 1) if rows else 1


def stop_threads(op):
    call(op, "stop_threads", op.db, op.install)


def our_databases(op):
    return {row["name"]: row for row in call(op, "list_databases", op.install)}


def our_database(op, name):
    """The row of one database in the register; None: it is not in it."""
    rows = call_either(op, ("look_database", op.install, name), ("list_databases", op.install))
    return next((row for row in rows if row["name"] == name), None)


def native_hash(secret):
    """A password as MariaDB keeps it: what is sent can be seen in the list of processes."""
    return "*" + hashlib.sha1(hashlib.sha1(secret.encode()).digest()).hexdigest().upper()


def make_database(op, secret):
    """Makes the database, and answers with the ticket that seal_database takes."""
    name = op.db, op.install, op.owner, str(op.gen)
    rows = call_either(op, ("create_database", *name, native_hash(secret)), ("make_database", *name, secret))
    return rows[0]["ticket"] if rows else ""


def seal_database(op, ticket, secret):
    name = op.db, op.install, op.owner
    if ticket:
        call(op, "seal_database", *name, ticket, native_hash(secret))
    else:
        call(op, "set_password", *name, secret)


def drop_database(op, last):
    """Drops it, so that nothing older makes it again; unless it is the last word,
    this run may."""
    name = op.db, op.install, op.owner
    call_either(op, ("remove_database", *name, str(op.gen + int(last))), ("drop_database", *name))


def connect_root(op):
    try:
        return connect(op.args.get("root_user") or "root", op.secrets["root_password"])
    except Refusal as e:
        if "1045" in e.detail:
            raise Refusal("invalid", "The database refused the root password; check it and run this again.", e.detail) from None
        raise


def set_up_database(op):
    """Installs procedures, register and account, as root; may run twice."""
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
        raise Refusal("invalid", "The database server refused the set-up; is this really its administrator?", str(e)) from None
    finally:
        db.close()
