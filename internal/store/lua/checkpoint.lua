-- Journals the steps under the fencing token, with any number of events. It is
-- the script that runs most: few commands, each on the one record. The same write
-- again is one whose answer was lost: it is answered, and not journalled twice.
-- KEYS[1] job record
-- ARGV 1 id, 2 gen, 3 steps, 4 state, 5 error or '', 6 step that came to its end or '', 7… events
-- returns {'ok', '1' if cancel was asked, rev} | {'stale'}
local id, now = ARGV[1], now_ms()
if not owned(id, ARGV[2]) then return { 'stale' } end
local mark = redis.sha1hex(table.concat(ARGV, '\n'))
local cancel, wrote, rev = unpack(redis.call('HMGET', KEYS[1], 'cancel', 'wrote', 'rev'))
if wrote == mark then return { 'ok', cancel or '', rev } end
local fields = { 'steps', ARGV[3], 'state', ARGV[4], 'wrote', mark }
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
return { 'ok', cancel or '', int(emit(id, now, unpack(ARGV, 7))) }
