-- Lifts the mint above a gen the bench has seen (after a failover Redis may have
-- forgotten some), and gives the run a new token, if its lease is still valid.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 highest gen seen; returns {'ok', gen} | {'stale'}
local id, now = ARGV[1], now_ms()
if not owned(id, ARGV[2]) or num(id, 'leaseUntil') <= now then return { 'stale' } end
local gen = int(mint(tonumber(ARGV[3])))
redis.call('HSET', KEYS[1], 'gen', gen)
return { 'ok', gen }
