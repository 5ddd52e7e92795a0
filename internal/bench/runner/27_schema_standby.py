# Procedures for standbys, which are copies that wait for a tenant. Who owns a database is the
# register's word, not its name: that of a standby was derived from the job that made it, and
# stays when it becomes a tenant's.
#   create_standby  makes a database like create_database; what is copied to it, and that it is
#                   sealed, is the same as for a site;
#   hand_over       gives a standby to another job, as that job's site, for good. Where two want
#                   one, or one wants it that another drops, this decides. The password stays;
#   find_database   lists the databases of a job.
# Only a database that was made as a standby is ever handed over, and only once: the workers'
# account cannot take a tenant's or a template's with it. The password of one that it takes is
# in the config of that site only.

STANDBY_SCHEMA = """
CREATE OR REPLACE PROCEDURE nexus.create_standby(p_name VARCHAR(128), p_install VARCHAR(64), p_job VARCHAR(64), p_gen VARCHAR(64), p_hash VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  CALL nexus.make_named(p_name, p_install, p_job, p_gen, CONCAT('BY PASSWORD ''', p_hash, ''''));
  UPDATE nexus.register SET kind = 'standby' WHERE name = p_name;
  SELECT ticket FROM nexus.register WHERE name = p_name;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.hand_over(p_name VARCHAR(128), p_install VARCHAR(64), p_maker VARCHAR(64), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; CALL nexus.free_name(p_name); RESIGNAL; END;
  IF (p_name REGEXP BINARY '\\\\Anx[0-9a-z]{4,62}\\\\z' AND p_maker REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z' AND p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z') IS NOT TRUE THEN
    CALL nexus.refuse(31001, 'nexus: malformed argument');
  END IF;
  CALL nexus.lock_name(p_name, p_install);
  UPDATE nexus.register SET kind = 'site', job = p_job WHERE name = p_name AND install = p_install AND kind = 'standby' AND job = p_maker AND sealed = 1;
  IF NOT EXISTS (SELECT 1 FROM nexus.register WHERE name = p_name AND install = p_install AND kind = 'site' AND job = p_job AND sealed = 1) THEN
    CALL nexus.refuse(31002, 'nexus: not a standby of that job');
  END IF;
  CALL nexus.free_name(p_name);
END
---
CREATE OR REPLACE PROCEDURE nexus.find_database(p_install VARCHAR(64), p_job VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  CALL nexus.check_account(p_install);
  IF (p_job REGEXP BINARY '\\\\A[0-9a-f]{32}\\\\z') IS NOT TRUE THEN CALL nexus.refuse(31001, 'nexus: malformed argument'); END IF;
  SELECT name, kind FROM nexus.register WHERE install = p_install AND job = p_job ORDER BY made_at, name LIMIT 16;
END
"""
