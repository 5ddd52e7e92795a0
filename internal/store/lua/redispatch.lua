-- Names a new dispatch when asynq lost the one that was never taken.
-- KEYS[1] job record; ARGV 1 id, 2 dispatch as seen; returns {'ok', dispatch} | {'stale'}
local id = ARGV[1]
if get(id, 'dispatch') ~= ARGV[2] or num(id, 'taken') >= tonumber(ARGV[2]) then return { 'stale' } end
return { 'ok', int(redis.call('HINCRBY', KEYS[1], 'dispatch', 1)) }
