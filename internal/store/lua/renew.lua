-- Renews lease and slot while the record's gen is the caller's, even after the lease has
-- expired: only a newer owner fences. A run whose slot expired gets one again even if all
-- are taken, since it uses the bench anyway.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 lease ms
-- returns {'ok', '1' if cancel was asked, Redis' time in ms} | {'stale'}
local id, now = ARGV[1], now_ms()
local mine, bench, cancel = owned(id, ARGV[2], 'bench', 'cancel')
if not mine and not raised(id, ARGV[2]) then return { 'stale' } end
local till = int(now + tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'leaseUntil', till)
redis.call('ZADD', DUE, 'XX', till, id)
redis.call('ZADD', LEASES, till, id)
if bench ~= '' then redis.call('ZADD', P .. 'slots:' .. job_lane(id, bench), int(now + SLOT_TTL), id) end
return { 'ok', cancel, int(now) }
