-- Releases the lease of a job that is not over. The job is due at once for another worker,
-- and that does not count as a rescue.
-- KEYS[1] job record; ARGV 1 id, 2 gen; returns {'ok'} | {'stale'}
local id, now = ARGV[1], now_ms()
if not owned(id, ARGV[2]) then return { 'stale' } end
redis.call('HSET', KEYS[1], 'leaseUntil', '0', 'gen', '0') -- the caller's token is stale from now on
redis.call('ZADD', DUE, 'XX', int(now), id)
redis.call('ZREM', LEASES, id)
return { 'ok' }
