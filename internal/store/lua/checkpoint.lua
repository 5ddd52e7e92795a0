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
  if ARGV[4] == 'running' then worked(id, ARGV[6], now) end
end
local rev = emit(id, now, unpack(ARGV, 7))
return { 'ok', get(id, 'cancel'), int(rev) }
