-- Makes a job due again whose dispatch was never taken and is not in asynq's queue: the
-- task was lost, or a worker that cannot do the job returned it. The next worker may be able
-- to do it. If asynq still has the old task, the job gets a new dispatch, because asynq
-- refuses a second task of the same id.
-- KEYS[1] job record; ARGV 1 id, 2 dispatch as seen, 3 '1' for a new dispatch
-- returns {'ok'} | {'stale'}
local id = ARGV[1]
if get(id, 'dispatch') ~= ARGV[2] or num(id, 'taken') >= tonumber(ARGV[2]) then return { 'stale' } end
redis.call('HSET', KEYS[1], 'looks', '0')
redis.call('ZADD', DUE, 'XX', int(now_ms() + 5000), id)
if ARGV[3] == '1' then redis.call('HINCRBY', KEYS[1], 'dispatch', 1) end
return { 'ok' }
