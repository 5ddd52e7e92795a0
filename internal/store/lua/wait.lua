-- Makes a job wait until a time. The job gives up lease and slot; the due index is its only
-- timer. It is due at once if a cancel was requested, or if a slot was freed since it asked
-- for one.
-- KEYS[1] job record
-- ARGV 1 id, 2 gen, 3 steps, 4 state, 5 waiting for, 6 sentence, 7 delay ms, 8… events
-- returns {'ok'} | {'stale'}
local id, now = ARGV[1], now_ms()
local mine, asked, cancel, bench = owned(id, ARGV[2], 'asked', 'cancel', 'bench')
if not mine then return { 'stale' } end
local at = now + tonumber(ARGV[7])
if (ARGV[5] == 'capacity' or ARGV[5] == 'bench') and asked and redis.call('ZSCORE', P .. 'waiters:' .. asked, id) then
  at = math.max(at, next_ask(asked, id, now))
  local slots = tonumber(redis.call('HGET', P .. 'bench:' .. bench_of(asked), 'slots') or '1')
  if admits(id, asked, slots, now) then at = now end
end
if cancel == '1' and ARGV[4] ~= 'rolling_back' then at = now end
move(id, ARGV[4])
redis.call('HSET', KEYS[1], 'steps', ARGV[3], 'waitingFor', ARGV[5], 'waitNote', ARGV[6],
  'nextAt', int(at), 'leaseUntil', '0', 'gen', '0') -- so that a late renewal does not restore the lease
redis.call('ZADD', DUE, int(at), id)
redis.call('ZREM', LEASES, id)
local lane = job_lane(id, bench)
if bench ~= '' and redis.call('ZREM', P .. 'slots:' .. lane, id) == 1 then wake(lane, now) end
emit_wait(id, now, ARGV[5] .. ARGV[#ARGV], unpack(ARGV, 8))
return { 'ok' }
