-- Journals the steps under the fencing token, with any number of events.
-- KEYS[1] job record
-- ARGV 1 id, 2 gen, 3 steps, 4 state, 5 error or '', 6 '1' to forget rescues, 7… events
-- returns {'ok', '1' if cancel was asked, rev} | {'stale'}
local id, now = ARGV[1], now_ms()
if not owned(id, ARGV[2]) then return { 'stale' } end
redis.call('HSET', KEYS[1], 'steps', ARGV[3], 'state', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[5]) end
if ARGV[6] == '1' then redis.call('HSET', KEYS[1], 'rescues', '0') end
local rev = num(id, 'rev')
for i = 7, #ARGV do rev = emit(id, now, ARGV[i]) end
return { 'ok', get(id, 'cancel'), int(rev) }
