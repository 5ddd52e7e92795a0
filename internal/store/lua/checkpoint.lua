-- Journals the steps under the fencing token, with any number of events. It is
-- the script that runs most: few commands, each on the one record.
-- KEYS[1] job record
-- ARGV 1 id, 2 gen, 3 steps, 4 state, 5 error or '', 6 step that came to its end or '', 7… events
-- returns {'ok', '1' if cancel was asked, rev} | {'stale'}
local id, now = ARGV[1], now_ms()
if not owned(id, ARGV[2]) then return { 'stale' } end
local fields = { 'steps', ARGV[3], 'state', ARGV[4] }
if ARGV[5] ~= '' then
  fields[#fields + 1] = 'error'
  fields[#fields + 1] = ARGV[5]
end
if ARGV[6] ~= '' then
  fields[#fields + 1] = 'rescues'
  fields[#fields + 1] = '0'
end
redis.call('HSET', KEYS[1], unpack(fields))
if ARGV[6] ~= '' and ARGV[4] == 'running' then worked(id, ARGV[6], now) end
local rev = emit(id, now, unpack(ARGV, 7))
return { 'ok', get(id, 'cancel'), int(rev) }
