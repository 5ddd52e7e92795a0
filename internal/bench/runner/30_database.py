# MariaDB without root: the worker's account may only call definer procedures,
# which accept only names of ours, and only databases in a register of ours. A
# database of another maker gets into the register by root alone (55_adopt.py).
# (An account with CREATE USER could change root's password.)
#
# Who has the account must not get into a tenant's database by a new password for
# it. So a row is open only while its site is made: set_password gives the last
# password and seals the row in one, before the tenant's data comes, and nothing
# opens it again. What gets into the register in any other way is sealed at once.
#
# The procedures are called by whoever stole the account, so each check must hold
# for NULL (IS NOT TRUE), in a session whose regular expressions are MULTILINE
# (\A, not ^), and in a transaction that began before (COMMIT, once the lock is held).
#
# The schema's character set is that of all their parameters. It is the columns':
# else no index would serve, and each statement would lock the rows of all sites.

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS nexus
---
ALTER SCHEMA nexus CHARACTER SET ascii
---
CREATE TABLE IF NOT EXISTS nexus.register (
  name VARCHAR(64) PRIMARY KEY, install CHAR(4) NOT NULL, job CHAR(32) NOT NULL,
  made_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB CHARACTER SET ascii
---
ALTER TABLE nexus.register ADD COLUMN IF NOT EXISTS adopted TINYINT NOT NULL DEFAULT 0
---
ALTER TABLE nexus.register ADD COLUMN IF NOT EXISTS sealed TINYINT NOT NULL DEFAULT 1
---
CREATE TABLE IF NOT EXISTS nexus.accounts (
  account VARCHAR(32), install CHAR(4), PRIMARY KEY (account, install)) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin
---
CREATE OR REPLACE PROCEDURE nexus.check_account(p_install CHAR(4))
SQL SECURITY DEFINER
BEGIN
  IF NOT EXISTS (SELECT 1 FROM nexus.accounts WHERE account = SUBSTRING_INDEX(USER(), '@', 1) AND install = p_install) THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31004, MESSAGE_TEXT = 'nexus: not an account of this install';
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_name(p_name VARCHAR(64), p_install CHAR(4))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_install CHAR(4);
  CALL nexus.check_account(p_install);
  IF (p_name REGEXP BINARY '\\\\A[_0-9a-z]{1,64}\\\\z') IS NOT TRUE
     OR p_name IN ('mysql', 'information_schema', 'performance_schema', 'sys', 'nexus', 'root') THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = 'nexus: not a name of ours';
  END IF;
  SELECT MAX(install) INTO v_install FROM nexus.register WHERE name = p_name;
  IF v_install IS NULL THEN
    IF (p_name REGEXP BINARY '\\\\Anx[0-9a-z]{4,62}\\\\z') IS NOT TRUE
       OR EXISTS (SELECT 1 FROM information_schema.schemata WHERE schema_name = p_name)
       OR EXISTS (SELECT 1 FROM mysql.global_priv WHERE User = p_name) THEN
      SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31002, MESSAGE_TEXT = 'nexus: not in the register';
    END IF;
  ELSEIF v_install <> p_install THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31002, MESSAGE_TEXT = 'nexus: of another install';
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.stop_threads(p_name VARCHAR(64), p_install CHAR(4))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT; DECLARE v_tries INT DEFAULT 0;
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  CALL nexus.check_name(p_name, p_install);
  l: LOOP
    SET v_id = NULL;
    SELECT MIN(id) INTO v_id FROM information_schema.processlist
      WHERE (user = p_name OR db = p_name) AND id <> CONNECTION_ID();
    IF v_id IS NULL THEN SET v_id = IS_USED_LOCK(CONCAT('nexus:', p_name, ':0')); END IF;
    IF v_id IS NULL OR v_id = CONNECTION_ID() THEN LEAVE l; END IF;
    IF v_tries > 2000 THEN
      SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31003, MESSAGE_TEXT = 'nexus: a thread does not end';
    END IF;
    EXECUTE IMMEDIATE CONCAT('KILL HARD ', v_id);
    SET v_tries = v_tries + 1;
    DO SLEEP(0.005);
  END LOOP;
END
---
CREATE OR REPLACE PROCEDURE nexus.lock_name(p_name VARCHAR(64), p_install CHAR(4))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_name(p_name, p_install);
  IF COALESCE(GET_LOCK(CONCAT('nexus:', p_name, ':0'), 20), 0) = 0 THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31003, MESSAGE_TEXT = 'nexus: the name is in use';
  END IF;
  COMMIT;
END
---
CREATE OR REPLACE PROCEDURE nexus.free_name(p_name VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  COMMIT;
  DO RELEASE_LOCK(CONCAT('nexus:', p_name, ':0'));
END
---
CREATE OR REPLACE PROCEDURE nexus.check_job(p_name VARCHAR(64), p_job CHAR(32))
SQL SECURITY DEFINER
BEGIN
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z' AND EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND job = p_job)) IS NOT TRUE THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31002, MESSAGE_TEXT = 'nexus: of another job';
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_open(p_name VARCHAR(64), p_job CHAR(32))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_job(p_name, p_job);
  IF NOT EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND job = p_job AND sealed = 0) THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31005, MESSAGE_TEXT = 'nexus: sealed, its password stays';
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.make_database(p_name VARCHAR(64), p_install CHAR(4), p_job CHAR(32), p_gen VARCHAR(20), p_password VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z' AND p_gen REGEXP BINARY '\\\\A[0-9]+\\\\z' AND p_password REGEXP BINARY '\\\\A[A-Za-z0-9]{16,64}\\\\z'
      AND p_name REGEXP BINARY '\\\\Anx[0-9a-z]{4,62}\\\\z') IS NOT TRUE THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = 'nexus: malformed argument';
  END IF;
  CALL nexus.lock_name(p_name, p_install);
  INSERT IGNORE INTO nexus.register (name, install, job, sealed) VALUES (p_name, p_install, p_job, 0);
  CALL nexus.check_open(p_name, p_job);
  EXECUTE IMMEDIATE CONCAT('CREATE DATABASE IF NOT EXISTS `', p_name, '` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci',
    ' COMMENT ''nexus job=', p_job, ' gen=', p_gen, '''');
  EXECUTE IMMEDIATE CONCAT('CREATE USER IF NOT EXISTS ''', p_name, '''@''%'' IDENTIFIED BY ''', p_password, '''');
  EXECUTE IMMEDIATE CONCAT('ALTER USER ''', p_name, '''@''%'' IDENTIFIED BY ''', p_password, '''');
  EXECUTE IMMEDIATE CONCAT('GRANT ALL ON `', p_name, '`.* TO ''', p_name, '''@''%''');
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.set_password(p_name VARCHAR(64), p_install CHAR(4), p_job CHAR(32), p_password VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  IF (p_password REGEXP BINARY '\\\\A[A-Za-z0-9]{16,64}\\\\z') IS NOT TRUE THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = 'nexus: malformed argument';
  END IF;
  CALL nexus.lock_name(p_name, p_install);
  CALL nexus.check_open(p_name, p_job);
  UPDATE nexus.register SET sealed = 1 WHERE name = p_name;
  EXECUTE IMMEDIATE CONCAT('ALTER USER ''', p_name, '''@''%'' IDENTIFIED BY ''', p_password, '''');
  CALL nexus.stop_threads(p_name, p_install);
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.take_database(p_name VARCHAR(64), p_install CHAR(4), p_job CHAR(32))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z') IS NOT TRUE THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = 'nexus: malformed argument';
  END IF;
  CALL nexus.lock_name(p_name, p_install);
  UPDATE nexus.register SET job = p_job WHERE name = p_name AND adopted = 1 AND job = '';
  CALL nexus.check_job(p_name, p_job);
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.release_database(p_name VARCHAR(64), p_install CHAR(4), p_job CHAR(32))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.lock_name(p_name, p_install);
  UPDATE nexus.register SET job = '' WHERE name = p_name AND adopted = 1 AND job = p_job;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.drop_database(p_name VARCHAR(64), p_install CHAR(4), p_job CHAR(32))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_host VARCHAR(255);
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.check_name(p_name, p_install);
  IF EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name) THEN CALL nexus.check_job(p_name, p_job); END IF;
  CALL nexus.stop_threads(p_name, p_install);
  CALL nexus.lock_name(p_name, p_install);
  EXECUTE IMMEDIATE CONCAT('DROP DATABASE IF EXISTS `', p_name, '`');
  l: LOOP
    SET v_host = NULL;
    SELECT MIN(Host) INTO v_host FROM mysql.global_priv WHERE User = p_name;
    IF v_host IS NULL THEN LEAVE l; END IF;
    EXECUTE IMMEDIATE CONCAT('DROP USER ''', p_name, '''@', QUOTE(v_host));
  END LOOP;
  DELETE FROM nexus.register WHERE name = p_name;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.list_databases(p_install CHAR(4))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_account(p_install);
  SELECT r.name, r.job, r.adopted, COALESCE(s.schema_comment, '') AS comment, s.schema_name IS NOT NULL AS present,
    (SELECT COUNT(*) FROM mysql.global_priv u WHERE u.User = r.name) AS users
  FROM nexus.register r LEFT JOIN information_schema.schemata s ON s.schema_name = r.name
  WHERE r.install = p_install;
END
"""

GRANTED = ("stop_threads", "make_database", "set_password", "drop_database", "list_databases", "take_database", "release_database")


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


def database_error(e):
    number = e.args[0] if e.args else 0
    detail = f"MariaDB {number}: {e.args[1] if len(e.args) > 1 else e}"
    if number in (31001,):
        return Refusal("invalid", "The database's name is not one of ours.", detail)
    if number in (31002,):
        return Refusal("conflict", "The database was not made by this job; it was left alone.", detail)
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


def stop_threads(op):
    call(op, "stop_threads", op.db, op.install)


def our_databases(op):
    return {row["name"]: row for row in call(op, "list_databases", op.install)}


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
            for statement in SCHEMA.split("---"):
                cursor.execute(statement)
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
