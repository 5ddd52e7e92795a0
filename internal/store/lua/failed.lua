-- Counts a failure toward the breaker of the job's bench. It counts failures in a row in
-- the same step with the same code, and each job once, since a job that keeps failing may
-- be the cause itself. Enough of them trip the breaker: it pauses the bench for a time that
-- doubles with each trip.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 step, 4 code, 5 how many trip, 6 first pause ms, 7 longest pause ms
-- returns {'ok'} | {'tripped', ms of its end} | {'stale'}
local id, now = ARGV[1], now_ms()
if not owned(id, ARGV[2]) then return { 'stale' } end
local bench = get(id, 'bench')
if bench == '' or get(id, 'kind') ~= 'provision' then return { 'ok' } end -- the breaker pauses only provisions
local key = P .. 'bench:' .. bench
local is = mode(bench, now)
local same = redis.call('HGET', key, 'step') == ARGV[3] and redis.call('HGET', key, 'code') == ARGV[4]
local blamers = P .. 'blamers:' .. bench
if not same then
  redis.call('HSET', key, 'step', ARGV[3], 'code', ARGV[4])
  redis.call('DEL', blamers)
end
redis.call('SADD', blamers, id)
redis.call('PEXPIRE', blamers, 86400000)
local failures = redis.call('SCARD', blamers)
redis.call('HSET', key, 'failures', int(failures))
if is ~= 'trying' and (is ~= 'open' or failures < tonumber(ARGV[5])) then return { 'ok' } end
local trips = redis.call('HINCRBY', key, 'trips', 1)
local till = now + math.min(tonumber(ARGV[6]) * 2 ^ (trips - 1), tonumber(ARGV[7]))
redis.call('HSET', key, 'mode', 'tripped', 'by', 'breaker', 'until', int(till))
return { 'tripped', int(till) }
