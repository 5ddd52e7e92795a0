-- Raises the last minted token above one that the bench has seen (a failover may have
-- lost some), and gives the run a new token if its lease is still valid. A repeated
-- request, whose first answer was lost, gets the same token.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 highest gen seen; returns {'ok', gen} | {'stale'}
-- | {'corrupt'} if that gen is too far in the future to be genuine
local id, now = ARGV[1], now_ms()
if num(id, 'leaseUntil') <= now then return { 'stale' } end
if raised(id, ARGV[2]) then return { 'ok', get(id, 'gen') } end
if not owned(id, ARGV[2]) then return { 'stale' } end
local gen = mint(tonumber(ARGV[3]))
if not gen then return { 'corrupt' } end
gen = int(gen)
redis.call('HSET', KEYS[1], 'gen', gen, 'former', ARGV[2])
return { 'ok', gen }
