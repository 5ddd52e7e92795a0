-- For a dispatch that was never taken and is not waiting in asynq's queue: it was
-- lost, or a worker that cannot do the job gave it back. It is looked at soon again,
-- since its worker may be one that can; and a new one is named where asynq still
-- knows the old one's task.
-- KEYS[1] job record; ARGV 1 id, 2 dispatch as seen, 3 '1' to name a new one
-- returns {'ok'} | {'stale'}
local id = ARGV[1]
if get(id, 'dispatch') ~= ARGV[2] or num(id, 'taken') >= tonumber(ARGV[2]) then return { 'stale' } end
redis.call('HSET', KEYS[1], 'looks', '0')
redis.call('ZADD', DUE, 'XX', int(now_ms() + 5000), id)
if ARGV[3] == '1' then redis.call('HINCRBY', KEYS[1], 'dispatch', 1) end
return { 'ok' }
