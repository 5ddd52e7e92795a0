-- Takes a standby away from all signups, so that it may be dropped.
-- KEYS[1] the standby's row; ARGV 1 id of its job
-- returns {'ok'} | {'busy'} while a job makes or claims it
local state, by = unpack(redis.call('HMGET', KEYS[1], 'state', 'job'))
if state == 'popped' and alive(by or '') or state ~= 'shelved' and state ~= 'popped' and alive(ARGV[1]) then return { 'busy' } end
if state then set_standby(ARGV[1], 'reaping', now_ms()) end
return { 'ok' }
