-- Lifts the mint above a gen the bench has seen (after a failover Redis may have
-- forgotten some), and gives the run a new token, if its lease is still valid. Who lost
-- the answer and asks again gets the same one.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 highest gen seen; returns {'ok', gen} | {'stale'}
-- | {'corrupt'} if that one is too far in the future to be ours
local id, now = ARGV[1], now_ms()
if num(id, 'leaseUntil') <= now then return { 'stale' } end
if raised(id, ARGV[2]) then return { 'ok', get(id, 'gen') } end
if not owned(id, ARGV[2]) then return { 'stale' } end
local gen = mint(tonumber(ARGV[3]))
if not gen then return { 'corrupt' } end
gen = int(gen)
redis.call('HSET', KEYS[1], 'gen', gen, 'former', ARGV[2])
return { 'ok', gen }
