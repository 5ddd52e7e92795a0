-- Puts a standby on its shelf that the bench has and the registry does not know, or takes for
-- one that is still made: Redis was restored from a backup or has lost its last writes, or a
-- former version ended the job.
-- KEYS[1] the standby's row; ARGV 1 id of its job, 2 bench, 3 key, 4 template, 5 database
-- returns {'ok'} | {'known'} if it has another row, or a job makes it
local state = redis.call('HGET', KEYS[1], 'state')
if state and state ~= 'making' or alive(ARGV[1]) then return { 'known' } end
add_standby(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], 'shelved', now_ms())
return { 'ok' }
