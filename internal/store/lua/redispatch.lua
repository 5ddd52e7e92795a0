-- For a dispatch that was never taken and is not in asynq's queue: it was lost, or a
-- worker that cannot do the job returned it. The job is due again soon, since the next
-- worker may be able to do it. A new dispatch is named if asynq still has the old task,
-- because asynq refuses a second task of the same id.
-- KEYS[1] job record; ARGV 1 id, 2 dispatch as seen, 3 '1' to name a new one
-- returns {'ok'} | {'stale'}
local id = ARGV[1]
if get(id, 'dispatch') ~= ARGV[2] or num(id, 'taken') >= tonumber(ARGV[2]) then return { 'stale' } end
redis.call('HSET', KEYS[1], 'looks', '0')
redis.call('ZADD', DUE, 'XX', int(now_ms() + 5000), id)
if ARGV[3] == '1' then redis.call('HINCRBY', KEYS[1], 'dispatch', 1) end
return { 'ok' }
