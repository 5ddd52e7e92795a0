-- Names a new dispatch when asynq lost the one that was never taken.
-- KEYS[1] job record; ARGV 1 id, 2 dispatch as seen; returns {'ok', dispatch} | {'stale'}
local id = ARGV[1]
if get(id, 'dispatch') ~= ARGV[2] or num(id, 'taken') >= tonumber(ARGV[2]) then return { 'stale' } end
-- A new dispatch is looked at soon again: its worker may be one that can do it.
redis.call('HSET', KEYS[1], 'looks', '0')
redis.call('ZADD', DUE, 'XX', int(now_ms() + 5000), id)
return { 'ok', int(redis.call('HINCRBY', KEYS[1], 'dispatch', 1)) }
