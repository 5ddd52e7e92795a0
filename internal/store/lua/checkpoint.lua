-- Journals the steps under the fencing token, with any number of events.
-- KEYS[1] job record
-- ARGV 1 id, 2 gen, 3 steps, 4 state, 5 error or '', 6 step that came to its end or '', 7… events
-- returns {'ok', '1' if cancel was asked, rev} | {'stale'}
local id, now = ARGV[1], now_ms()
if not owned(id, ARGV[2]) then return { 'stale' } end
redis.call('HSET', KEYS[1], 'steps', ARGV[3], 'state', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[5]) end
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'rescues', '0')
  local bench = get(id, 'bench')
  -- A success of the step that failed in a row closes the breaker.
  if bench ~= '' and ARGV[4] == 'running' and redis.call('HGET', P .. 'bench:' .. bench, 'step') == ARGV[6] then
    local by_breaker = mode(bench, now) == 'trying'
    redis.call('HDEL', P .. 'bench:' .. bench, 'step', 'code', 'failures')
    redis.call('DEL', P .. 'blamers:' .. bench)
    if by_breaker then reopen(bench, now) end
  end
end
local rev = emit(id, now, unpack(ARGV, 7))
return { 'ok', get(id, 'cancel'), int(rev) }
