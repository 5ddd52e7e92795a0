-- Puts a standby on its shelf that the bench has and the registry does not know: Redis was
-- restored from a backup, or has lost its last writes.
-- KEYS[1] the standby's row; ARGV 1 id of its job, 2 bench, 3 key, 4 template, 5 database
-- returns {'ok'} | {'known'} if it has a row, or a job makes it
if redis.call('EXISTS', KEYS[1]) == 1 or alive(ARGV[1]) then return { 'known' } end
add_standby(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], 'shelved', now_ms())
return { 'ok' }
