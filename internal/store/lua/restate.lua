-- Sets the state or the purge date of a tenant that no job holds, for an operator or the
-- doctor. A suspended tenant is purged when the given grace is over.
-- KEYS[1] tenant; ARGV 1 site, 2 made by, 3 state and 4 purge date (ms or '') as read, 5 state,
--      6 grace ms or '0' for no purge date, 7 gen of the change of state or ''
-- returns {'ok'} | {'other'} when the row is no longer as read
local now = now_ms()
local row = redis.call('HMGET', KEYS[1], 'madeBy', 'state', 'purgeAt', 'job')
if row[1] ~= ARGV[2] or row[2] ~= ARGV[3] or (row[3] or '') ~= ARGV[4] or row[4] ~= '' then return { 'other' } end
move_tenant(ARGV[1], ARGV[5])
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'stateGen', ARGV[7]) end
if ARGV[5] == 'suspended' and ARGV[6] ~= '0' then
  local purge = int(now + tonumber(ARGV[6]))
  redis.call('HSET', KEYS[1], 'purgeAt', purge)
  redis.call('ZADD', DUE, purge, 'tenant:' .. ARGV[1])
else
  redis.call('HDEL', KEYS[1], 'purgeAt')
  redis.call('ZREM', DUE, 'tenant:' .. ARGV[1])
end
return { 'ok' }
