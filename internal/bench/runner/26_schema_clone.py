# Procedures that copy a template's database. Only a database that was made as a template
# (create_template) and is frozen is ever the source of a copy, so that the workers'
# account cannot copy a tenant's:
#   create_template  makes a database like create_database; no procedure turns another
#                    database into a template;
#   freeze_database  closes it for good: locks its account, ends its sessions, refuses what
#                    CREATE TABLE … LIKE does not copy, and lists its tables in nexus.tables;
#   clone_database   copies a part of these tables (a shard) into a database that the same
#                    job has just made: its ticket is needed, and the row is not sealed;
#   finish_clone     makes the views and compares the two databases. Nothing is copied to
#                    this one any more. seal_database then sets the last password.
# The tables of these procedures are in 25_schema.py: all are made before any procedure.
# Several clients copy the shards of one database at once. Each holds a lock of its own
# (shard_lock) while it writes, since MariaDB goes on with the statements of a dead client:
# what stops, seals or drops a database waits for the locks of all shards. The locks of a
# name are 0 for its own and 1 to 8 for the shards of a copy.
#
# A standby is copied while others sign up, and its statements slow theirs down: both need the
# server's processors and InnoDB's dictionary. So the sessions of a signup call go_first, which
# holds one of four locks until the session ends, and before each table of a standby the copying
# session waits until all four are free, for two seconds in all (give_way).

CLONE_SCHEMA = """
CREATE OR REPLACE PROCEDURE nexus.check_clone(p_source VARCHAR(128), p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_ticket VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_open(p_name, p_job);
  IF (p_ticket REGEXP BINARY '\\\\A[0-9a-f]{64}\\\\z' AND EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND ticket = p_ticket AND kind <> 'template' AND source = '')) IS NOT TRUE THEN
    CALL nexus.refuse(31006, 'nexus: made by somebody else');
  END IF;
  IF (p_source REGEXP BINARY '\\\\Anx[0-9a-z]{4,62}\\\\z'
      AND EXISTS (SELECT 1 FROM nexus.register WHERE name = p_source AND install = p_install AND kind = 'template' AND frozen = 1)) IS NOT TRUE THEN
    CALL nexus.refuse(31009, 'nexus: not a frozen template');
  END IF;
END
---
CREATE OR REPLACE PROCEDURE nexus.create_template(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_gen VARCHAR(64), p_hash VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.make_named(p_name, p_install, p_job, p_gen, CONCAT('BY PASSWORD ''', p_hash, ''''));
  UPDATE nexus.register SET kind = 'template' WHERE name = p_name;
  SELECT ticket FROM nexus.register WHERE name = p_name;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.freeze_named(p_name VARCHAR(128), p_install VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_table VARCHAR(64) CHARACTER SET utf8mb4; DECLARE v_kind VARCHAR(10); DECLARE v_position INT DEFAULT 0; DECLARE v_done INT DEFAULT 0;
  DECLARE c CURSOR FOR SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = p_name;
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  EXECUTE IMMEDIATE CONCAT('ALTER USER ''', p_name, '''@''%'' ACCOUNT LOCK');
  CALL nexus.stop_threads(p_name, p_install);
  CALL nexus.check_bare(p_name);
  IF EXISTS (SELECT 1 FROM information_schema.referential_constraints WHERE constraint_schema = p_name)
     OR EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = p_name AND table_type <> 'VIEW' AND (engine IN ('InnoDB', 'MyISAM', 'Aria')) IS NOT TRUE) THEN
    CALL nexus.refuse(31009, 'nexus: a foreign key, or a table of another engine, is in the template');
  END IF;
  DELETE FROM nexus.tables WHERE template = p_name;
  OPEN c;
  l: LOOP
    SET v_done = 0;
    FETCH c INTO v_table, v_kind;
    IF v_done THEN LEAVE l; END IF;
    SET v_position = v_position + 1;
    SET @nexus_filled = 0;
    IF v_kind <> 'VIEW' THEN EXECUTE IMMEDIATE CONCAT('SELECT EXISTS (SELECT 1 FROM `', p_name, '`.`', REPLACE(v_table, '`', '``'), '`) INTO @nexus_filled'); END IF;
    INSERT INTO nexus.tables VALUES (p_name, v_position, v_table, IF(v_kind = 'VIEW', 'view', 'table'), @nexus_filled);
  END LOOP;
  CLOSE c;
  UPDATE nexus.register SET frozen = 1 WHERE name = p_name;
END
---
CREATE OR REPLACE PROCEDURE nexus.freeze_database(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.stop_threads(p_name, p_install);
  CALL nexus.lock_name(p_name, p_install);
  CALL nexus.check_job(p_name, p_job);
  IF NOT EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND kind = 'template' AND sealed = 1) THEN
    CALL nexus.refuse(31009, 'nexus: not made as a template');
  END IF;
  IF NOT EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND frozen = 1) THEN CALL nexus.freeze_named(p_name, p_install); END IF;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.go_first()
SQL SECURITY DEFINER
BEGIN
  DECLARE v_place INT DEFAULT 1; DECLARE v_lock VARCHAR(64);
  l: WHILE v_place <= 4 DO
    CALL nexus.shard_lock('first', v_place, v_lock);
    IF GET_LOCK(v_lock, 0) THEN LEAVE l; END IF;
    SET v_place = v_place + 1;
  END WHILE;
END
---
CREATE OR REPLACE PROCEDURE nexus.give_way(INOUT p_patience INT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_place INT DEFAULT 1; DECLARE v_lock VARCHAR(64);
  WHILE p_patience > 0 AND v_place <= 4 DO
    CALL nexus.shard_lock('first', v_place, v_lock);
    IF IS_FREE_LOCK(v_lock) THEN
      SET v_place = v_place + 1;
    ELSE
      DO SLEEP(0.005);
      SET p_patience = p_patience - 1, v_place = 1;
    END IF;
  END WHILE;
END
---
CREATE OR REPLACE PROCEDURE nexus.clone_database(p_source VARCHAR(128), p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_ticket VARCHAR(128), p_shard VARCHAR(8), p_shards VARCHAR(8))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_table VARCHAR(64) CHARACTER SET utf8mb4; DECLARE v_filled INT; DECLARE v_done INT DEFAULT 0; DECLARE v_lock VARCHAR(64); DECLARE v_patience INT;
  DECLARE c CURSOR FOR SELECT name, filled FROM nexus.tables WHERE template = p_source AND kind = 'table' AND MOD(position, CAST(p_shards AS INT)) = CAST(p_shard AS INT) - 1 ORDER BY position;
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN DO RELEASE_LOCK(v_lock); RESIGNAL; END;
  IF (p_shard REGEXP BINARY '\\\\A[1-8]\\\\z' AND p_shards REGEXP BINARY '\\\\A[1-8]\\\\z' AND p_shard <= p_shards) IS NOT TRUE THEN CALL nexus.refuse(31001, 'nexus: malformed argument'); END IF;
  CALL nexus.check_name(p_name, p_install);
  CALL nexus.shard_lock(p_name, p_shard, v_lock);
  IF COALESCE(GET_LOCK(v_lock, 20), 0) = 0 THEN CALL nexus.refuse(31003, 'nexus: the name is in use'); END IF;
  COMMIT;
  CALL nexus.check_clone(p_source, p_name, p_install, p_job, p_ticket);
  SELECT IF(kind = 'standby', 400, 0) INTO v_patience FROM nexus.register WHERE name = p_name;
  OPEN c;
  l: LOOP
    SET v_done = 0;
    FETCH c INTO v_table, v_filled;
    IF v_done THEN LEAVE l; END IF;
    CALL nexus.give_way(v_patience);
    SET v_table = REPLACE(v_table, '`', '``');
    EXECUTE IMMEDIATE CONCAT('CREATE TABLE `', p_name, '`.`', v_table, '` LIKE `', p_source, '`.`', v_table, '`');
    IF v_filled THEN EXECUTE IMMEDIATE CONCAT('INSERT INTO `', p_name, '`.`', v_table, '` SELECT * FROM `', p_source, '`.`', v_table, '`'); END IF;
  END LOOP;
  CLOSE c;
  COMMIT;
  DO RELEASE_LOCK(v_lock);
END
---
CREATE OR REPLACE PROCEDURE nexus.finish_clone(p_source VARCHAR(128), p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_ticket VARCHAR(128))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_view VARCHAR(64) CHARACTER SET utf8mb4; DECLARE v_text LONGTEXT CHARACTER SET utf8mb4; DECLARE v_left INT; DECLARE v_before INT; DECLARE v_done INT DEFAULT 0;
  DECLARE c CURSOR FOR SELECT v.table_name, v.view_definition FROM information_schema.views v
    WHERE v.table_schema = p_source AND NOT EXISTS (SELECT 1 FROM information_schema.views o WHERE o.table_schema = p_name AND o.table_name = v.table_name);
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.lock_name(p_name, p_install);
  CALL nexus.check_clone(p_source, p_name, p_install, p_job, p_ticket);
  SELECT COUNT(*) INTO v_left FROM nexus.tables WHERE template = p_source AND kind = 'view';
  WHILE v_left > 0 DO
    SET v_before = v_left;
    OPEN c;
    l: LOOP
      SET v_done = 0;
      FETCH c INTO v_view, v_text;
      IF v_done THEN LEAVE l; END IF;
      BEGIN
        DECLARE CONTINUE HANDLER FOR 1146, 1356 SET v_left = v_left + 1; -- it reads a view that is not copied yet
        EXECUTE IMMEDIATE CONCAT('CREATE DEFINER = ''', p_name, '''@''%'' SQL SECURITY INVOKER VIEW `', p_name, '`.`', REPLACE(v_view, '`', '``'), '` AS ', REPLACE(v_text, CONCAT('`', p_source, '`.'), CONCAT('`', p_name, '`.')));
        SET v_left = v_left - 1;
      END;
    END LOOP;
    CLOSE c;
    IF v_left = v_before THEN CALL nexus.refuse(31010, 'nexus: a view of the template cannot be copied'); END IF;
  END WHILE;
  IF (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = p_name) <> (SELECT COUNT(*) FROM nexus.tables WHERE template = p_source) THEN
    CALL nexus.refuse(31010, 'nexus: the copy is not complete');
  END IF;
  UPDATE nexus.register SET source = p_source WHERE name = p_name;
  CALL nexus.free_name(p_name);
END
"""
