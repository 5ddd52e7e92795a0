# MariaDB without root: the worker's account may only call definer procedures. They
# accept only names of ours and databases in our register. Only root enters a database
# of another maker there (55_adopt.py). CREATE USER is not given to the account, since
# with it one can change root's password.
#
# The account must not give access to a tenant's database. So a row of the register is
# open only while its site is made, and no procedure makes a database that exists:
#   create_database  returns a ticket that is made on the server;
#   seal_database    takes that ticket, sets the last password and seals the row before
#                    the tenant's data comes. No procedure opens a sealed row.
# If somebody drops and makes the database in between, its ticket is another one. A
# database with a trigger, event or routine, or a view that is not its template's, is not
# sealed but refused. Both take a password's hash, since the account sees the statements
# of its own other sessions.
# Rows that get into the register in any other way are sealed from the start.
#
# An attacker with the account's password can call the procedures too. So each check
# must hold for NULL (IS NOT TRUE), in a session whose regular expressions are MULTILINE
# (\A, not ^), and in a transaction that began earlier (COMMIT, once the lock is held).
# Parameters are longer than the values that are allowed: CHAR(32) would silently cut
# off a 33rd character that is a blank.
#
# All parameters have the schema's character set. It must be that of the columns:
# otherwise no index is used, and each statement locks the rows of all sites.
#
# A signature never changes, since workers of the former version call the procedures
# during a deploy. They use make_database, set_password and drop_database.

# list_databases joins derived tables (LIMIT keeps the first one from being merged),
# since information_schema and global_priv have no index: one lookup per row took 24 s
# beside 4,000 databases.

SCHEMA_VERSION = 5  # stored in nexus.facts; 1: from before there was that table; 3: with 26_schema_clone.py; 4: with 27_schema_standby.py; 5: with go_first

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
ALTER TABLE nexus.register ADD COLUMN IF NOT EXISTS gen BIGINT UNSIGNED NOT NULL DEFAULT 0, ADD COLUMN IF NOT EXISTS ticket CHAR(64) NOT NULL DEFAULT ''
---
ALTER TABLE nexus.register ADD COLUMN IF NOT EXISTS kind VARCHAR(10) NOT NULL DEFAULT 'site', ADD COLUMN IF NOT EXISTS frozen TINYINT NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS source VARCHAR(64) NOT NULL DEFAULT ''
---
CREATE TABLE IF NOT EXISTS nexus.tables (
  template VARCHAR(64) NOT NULL, position INT NOT NULL, name VARCHAR(64) CHARACTER SET utf8mb4 NOT NULL, kind VARCHAR(10) NOT NULL, filled TINYINT NOT NULL,
  PRIMARY KEY (template, position)) ENGINE=InnoDB CHARACTER SET ascii
---
CREATE TABLE IF NOT EXISTS nexus.accounts (
  account VARCHAR(32), install CHAR(4), PRIMARY KEY (account, install)) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin
---
CREATE TABLE IF NOT EXISTS nexus.dropped (
  name VARCHAR(64) PRIMARY KEY, least BIGINT UNSIGNED NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, KEY (at)) ENGINE=InnoDB CHARACTER SET ascii
---
CREATE TABLE IF NOT EXISTS nexus.facts (
  id TINYINT PRIMARY KEY, version INT NOT NULL, secret CHAR(64) NOT NULL) ENGINE=InnoDB CHARACTER SET ascii
---
CREATE OR REPLACE PROCEDURE nexus.version()
SQL SECURITY DEFINER
BEGIN
  SELECT version FROM nexus.facts WHERE id = 1;
END
---
CREATE OR REPLACE PROCEDURE nexus.refuse(p_number INT, p_text VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = p_number, MESSAGE_TEXT = p_text;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_account(p_install VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  IF (p_install REGEXP BINARY '\\\\A[0-9a-z]{4}\\\\z'
      AND EXISTS (SELECT 1 FROM nexus.accounts WHERE account = SUBSTRING_INDEX(USER(), '@', 1) AND install = p_install)) IS NOT TRUE THEN
    CALL nexus.refuse(31004, 'nexus: not an account of this install');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_name(p_name VARCHAR(128), p_install VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_install CHAR(4);
  CALL nexus.check_account(p_install);
  IF (p_name REGEXP BINARY '\\\\A[_0-9a-z]{1,64}\\\\z') IS NOT TRUE
     OR p_name IN ('mysql', 'information_schema', 'performance_schema', 'sys', 'nexus', 'root') THEN
    CALL nexus.refuse(31001, 'nexus: not a name of ours');
  END IF;
  SELECT MAX(install) INTO v_install FROM nexus.register WHERE name = p_name;
  IF v_install IS NULL THEN
    IF (p_name REGEXP BINARY '\\\\Anx[0-9a-z]{4,62}\\\\z') IS NOT TRUE
       OR EXISTS (SELECT 1 FROM information_schema.schemata WHERE schema_name = p_name)
       OR EXISTS (SELECT 1 FROM mysql.global_priv WHERE User = p_name) THEN
      CALL nexus.refuse(31002, 'nexus: not in the register');
    END IF;
  ELSEIF v_install <> p_install THEN
    CALL nexus.refuse(31002, 'nexus: of another install');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.shard_lock(p_name VARCHAR(128), p_shard INT, OUT p_lock VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  SELECT CONCAT('nexus:', LEFT(SHA2(CONCAT(secret, p_name, ':', p_shard), 256), 48)) INTO p_lock FROM nexus.facts WHERE id = 1;
END
---
CREATE OR REPLACE PROCEDURE nexus.stop_threads(p_name VARCHAR(128), p_install VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT; DECLARE v_tries INT DEFAULT 0; DECLARE v_shard INT; DECLARE v_lock VARCHAR(64);
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  CALL nexus.check_name(p_name, p_install);
  l: LOOP
    SET v_id = NULL, v_shard = 0;
    SELECT MIN(id) INTO v_id FROM information_schema.processlist
      WHERE (user = p_name OR db = p_name) AND id <> CONNECTION_ID();
    WHILE v_id IS NULL AND v_shard <= 8 DO
      CALL nexus.shard_lock(p_name, v_shard, v_lock);
      SET v_id = NULLIF(IS_USED_LOCK(v_lock), CONNECTION_ID()), v_shard = v_shard + 1;
    END WHILE;
    IF v_id IS NULL THEN LEAVE l; END IF;
    IF v_tries > 2000 THEN CALL nexus.refuse(31003, 'nexus: a thread does not end'); END IF;
    EXECUTE IMMEDIATE CONCAT('KILL HARD ', v_id);
    SET v_tries = v_tries + 1;
    DO SLEEP(0.005);
  END LOOP;
END
---
CREATE OR REPLACE PROCEDURE nexus.lock_name(p_name VARCHAR(128), p_install VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_shard INT DEFAULT 0; DECLARE v_lock VARCHAR(64);
  CALL nexus.check_name(p_name, p_install);
  WHILE v_shard <= 8 DO
    CALL nexus.shard_lock(p_name, v_shard, v_lock);
    IF COALESCE(GET_LOCK(v_lock, 20), 0) = 0 THEN CALL nexus.refuse(31003, 'nexus: the name is in use'); END IF;
    SET v_shard = v_shard + 1;
  END WHILE;
  COMMIT;
END
---
CREATE OR REPLACE PROCEDURE nexus.free_name(p_name VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_shard INT DEFAULT 0; DECLARE v_lock VARCHAR(64);
  COMMIT;
  WHILE v_shard <= 8 DO
    CALL nexus.shard_lock(p_name, v_shard, v_lock);
    DO RELEASE_LOCK(v_lock);
    SET v_shard = v_shard + 1;
  END WHILE;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_job(p_name VARCHAR(128), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z' AND EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND job = p_job)) IS NOT TRUE THEN
    CALL nexus.refuse(31002, 'nexus: of another job');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_open(p_name VARCHAR(128), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_job(p_name, p_job);
  IF NOT EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND job = p_job AND sealed = 0) THEN
    CALL nexus.refuse(31005, 'nexus: sealed, its password stays');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_password(p_identified VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  IF (p_identified REGEXP BINARY '\\\\ABY[ ]''[A-Za-z0-9]{16,64}''\\\\z' OR p_identified REGEXP BINARY '\\\\ABY[ ]PASSWORD[ ]''[*][0-9A-F]{40}''\\\\z') IS NOT TRUE THEN
    CALL nexus.refuse(31001, 'nexus: malformed argument');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_bare(p_name VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  IF EXISTS (SELECT 1 FROM information_schema.triggers WHERE trigger_schema = p_name)
     OR EXISTS (SELECT 1 FROM mysql.event WHERE db = p_name)
     OR EXISTS (SELECT 1 FROM mysql.proc WHERE db = p_name) THEN
    CALL nexus.refuse(31008, 'nexus: a trigger, event or routine is in the new database');
  END IF;
  IF EXISTS (SELECT 1 FROM mysql.global_priv WHERE User = p_name AND (Host <> '%' OR JSON_VALUE(Priv, '$.access') > 0))
     OR EXISTS (SELECT 1 FROM mysql.db WHERE REPLACE(Db, '\\\\', '') = p_name AND (User <> p_name OR Host <> '%'))
     OR EXISTS (SELECT 1 FROM mysql.db WHERE User = p_name AND Db <> p_name)
     OR EXISTS (SELECT 1 FROM mysql.tables_priv WHERE Db = p_name)
     OR EXISTS (SELECT 1 FROM mysql.columns_priv WHERE Db = p_name)
     OR EXISTS (SELECT 1 FROM mysql.procs_priv WHERE Db = p_name)
     OR EXISTS (SELECT 1 FROM mysql.roles_mapping WHERE User = p_name) THEN
    CALL nexus.refuse(31008, 'nexus: another account has rights on the new database');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.check_views(p_name VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  IF EXISTS (SELECT 1 FROM information_schema.views v WHERE v.table_schema = p_name
      AND (v.definer = CONCAT(p_name, '@%') AND v.security_type = 'INVOKER' AND EXISTS (SELECT 1 FROM nexus.register r JOIN nexus.tables t ON t.template = r.source
        WHERE r.name = p_name AND t.kind = 'view' AND BINARY t.name = BINARY v.table_name)) IS NOT TRUE) THEN
    CALL nexus.refuse(31008, 'nexus: a view is in the new database');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.make_named(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_gen VARCHAR(64), p_identified VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_least BIGINT UNSIGNED;
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z' AND p_gen REGEXP BINARY '\\\\A[0-9]{1,19}\\\\z' AND p_name REGEXP BINARY '\\\\Anx[0-9a-z]{4,62}\\\\z') IS NOT TRUE THEN
    CALL nexus.refuse(31001, 'nexus: malformed argument');
  END IF;
  CALL nexus.check_password(p_identified);
  CALL nexus.lock_name(p_name, p_install);
  IF EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name) THEN CALL nexus.refuse(31006, 'nexus: made already'); END IF;
  SELECT MAX(least) INTO v_least FROM nexus.dropped WHERE name = p_name;
  IF v_least > CAST(p_gen AS UNSIGNED) THEN CALL nexus.refuse(31007, CONCAT('nexus: dropped, least token ', v_least)); END IF;
  INSERT INTO nexus.register (name, install, job, sealed, gen, ticket)
    SELECT p_name, p_install, p_job, 0, CAST(p_gen AS UNSIGNED), SHA2(CONCAT(secret, UUID(), RAND(), SYSDATE(6), CONNECTION_ID()), 256) FROM nexus.facts WHERE id = 1;
  CALL nexus.stop_threads(p_name, p_install);
  EXECUTE IMMEDIATE CONCAT('CREATE DATABASE `', p_name, '` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci',
    ' COMMENT ''nexus job=', p_job, ' gen=', p_gen, '''');
  EXECUTE IMMEDIATE CONCAT('CREATE USER ''', p_name, '''@''%'' IDENTIFIED ', p_identified);
  EXECUTE IMMEDIATE CONCAT('GRANT ALL ON `', p_name, '`.* TO ''', p_name, '''@''%''');
END
---
CREATE OR REPLACE PROCEDURE nexus.seal_named(p_name VARCHAR(128), p_install VARCHAR(64), p_identified VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_password(p_identified);
  UPDATE nexus.register SET sealed = 1, ticket = '' WHERE name = p_name;
  EXECUTE IMMEDIATE CONCAT('ALTER USER ''', p_name, '''@''%'' IDENTIFIED ', p_identified);
  CALL nexus.stop_threads(p_name, p_install);
  CALL nexus.check_bare(p_name);
  CALL nexus.check_views(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.drop_named(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_least VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_host VARCHAR(255); DECLARE v_gen BIGINT UNSIGNED;
  CALL nexus.check_name(p_name, p_install);
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z') IS NOT TRUE THEN CALL nexus.refuse(31001, 'nexus: malformed argument'); END IF;
  IF EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name) THEN CALL nexus.check_job(p_name, p_job); END IF;
  CALL nexus.stop_threads(p_name, p_install);
  CALL nexus.lock_name(p_name, p_install);
  IF EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name) THEN CALL nexus.check_job(p_name, p_job); END IF;
  l: LOOP
    SET v_host = NULL;
    SELECT MIN(Host) INTO v_host FROM mysql.global_priv WHERE User = p_name;
    IF v_host IS NULL THEN LEAVE l; END IF;
    EXECUTE IMMEDIATE CONCAT('DROP USER ''', p_name, '''@', QUOTE(v_host));
  END LOOP;
  CALL nexus.stop_threads(p_name, p_install);
  EXECUTE IMMEDIATE CONCAT('DROP DATABASE IF EXISTS `', p_name, '`');
  SELECT MAX(gen) INTO v_gen FROM nexus.register WHERE name = p_name;
  DELETE FROM nexus.register WHERE name = p_name;
  DELETE FROM nexus.tables WHERE template = p_name;
  IF p_name REGEXP BINARY '\\\\Anx' THEN
    INSERT INTO nexus.dropped (name, least) VALUES (p_name, COALESCE(CAST(p_least AS UNSIGNED), v_gen, 0))
      ON DUPLICATE KEY UPDATE least = GREATEST(least, VALUES(least)), at = CURRENT_TIMESTAMP;
  END IF;
  COMMIT;
  DELETE FROM nexus.dropped WHERE at < CURRENT_TIMESTAMP - INTERVAL 3 DAY ORDER BY at LIMIT 1000;
END
---
CREATE OR REPLACE PROCEDURE nexus.create_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_gen VARCHAR(64), p_hash VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.make_named(p_name, p_install, p_job, p_gen, CONCAT('BY PASSWORD ''', p_hash, ''''));
  SELECT ticket FROM nexus.register WHERE name = p_name;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.seal_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_ticket VARCHAR(128), p_hash VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.lock_name(p_name, p_install);
  CALL nexus.check_open(p_name, p_job);
  IF (p_ticket REGEXP BINARY '\\\\A[0-9a-f]{64}\\\\z' AND EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND ticket = p_ticket)) IS NOT TRUE THEN
    CALL nexus.refuse(31006, 'nexus: made by somebody else');
  END IF;
  CALL nexus.seal_named(p_name, p_install, CONCAT('BY PASSWORD ''', p_hash, ''''));
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.remove_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_least VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  IF (p_least REGEXP BINARY '\\\\A[0-9]{1,19}\\\\z') IS NOT TRUE THEN CALL nexus.refuse(31001, 'nexus: malformed argument'); END IF;
  CALL nexus.drop_named(p_name, p_install, p_job, p_least);
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.make_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_gen VARCHAR(64), p_password VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.make_named(p_name, p_install, p_job, p_gen, CONCAT('BY ''', p_password, ''''));
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.set_password(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_password VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.lock_name(p_name, p_install);
  CALL nexus.check_open(p_name, p_job);
  CALL nexus.seal_named(p_name, p_install, CONCAT('BY ''', p_password, ''''));
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.drop_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.drop_named(p_name, p_install, p_job, NULL);
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.take_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z') IS NOT TRUE THEN CALL nexus.refuse(31001, 'nexus: malformed argument'); END IF;
  CALL nexus.lock_name(p_name, p_install);
  UPDATE nexus.register SET job = p_job WHERE name = p_name AND adopted = 1 AND job = '';
  CALL nexus.check_job(p_name, p_job);
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.release_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z') IS NOT TRUE THEN CALL nexus.refuse(31001, 'nexus: malformed argument'); END IF;
  CALL nexus.lock_name(p_name, p_install);
  UPDATE nexus.register SET job = '' WHERE name = p_name AND adopted = 1 AND job = p_job;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.look_database(p_install VARCHAR(64), p_name VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_comment VARCHAR(1024) CHARACTER SET utf8mb4;
  CALL nexus.check_account(p_install);
  SELECT MAX(schema_comment) INTO v_comment FROM information_schema.schemata WHERE schema_name = p_name;
  SELECT r.name, r.job, r.adopted, r.kind, r.frozen, COALESCE(v_comment, '') AS comment, v_comment IS NOT NULL AS present
  FROM nexus.register r WHERE r.name = p_name AND BINARY r.name = BINARY p_name AND r.install = p_install;
END
---
CREATE OR REPLACE PROCEDURE nexus.list_databases(p_install VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_account(p_install);
  SELECT r.name, r.job, r.adopted, r.kind, r.frozen, COALESCE(s.comment, '') AS comment, s.name IS NOT NULL AS present, COALESCE(u.users, 0) AS users
  FROM nexus.register r
    LEFT JOIN (SELECT CONVERT(schema_name USING ascii) AS name, schema_comment AS comment FROM information_schema.schemata LIMIT 10000000) s ON s.name = r.name
    LEFT JOIN (SELECT CONVERT(User USING ascii) AS name, COUNT(*) AS users FROM mysql.global_priv GROUP BY User) u ON u.name = r.name
  WHERE r.install = p_install;
END
"""

GRANTED = ("version", "stop_threads", "create_database", "seal_database", "remove_database", "make_database", "set_password", "drop_database",
           "list_databases", "look_database", "take_database", "release_database",
           "create_template", "freeze_database", "clone_database", "finish_clone", "go_first", "create_standby", "hand_over", "find_database")


def install_schema(cursor):
    """Installs tables and procedures, unless a newer version has installed its own."""
    cursor.execute("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'")  # a procedure runs in the mode it was made in
    if installed_version(cursor) > SCHEMA_VERSION:
        return
    for statement in "---".join((SCHEMA, CLONE_SCHEMA, STANDBY_SCHEMA)).split("---"):
        cursor.execute(statement)
        if "EXISTS nexus.facts" in statement:  # before the procedures that need it
            cursor.execute("INSERT IGNORE INTO nexus.facts (id, version, secret) VALUES (1, 1, %s)", (random_source.token_hex(32),))
    cursor.execute("UPDATE nexus.facts SET version = %s WHERE id = 1", (SCHEMA_VERSION,))


def installed_version(cursor):
    cursor.execute("SELECT 1 FROM information_schema.tables WHERE table_schema = 'nexus' AND table_name = 'facts'")
    if not cursor.fetchall():
        return 1
    cursor.execute("SELECT version FROM nexus.facts WHERE id = 1")
    return (cursor.fetchone() or {"version": 1})["version"]
