-- Writes the steps and appends events, if the caller's token is the newest. It runs more
-- often than any other script, so it uses few commands. The client repeats a write whose
-- answer was lost: the script answers again and writes nothing. A write that arrives after
-- a later one of the same run is refused: Redis may still read it from a connection that
-- the client has given up.
-- KEYS[1] job record
-- ARGV 1 id, 2 gen, 3 steps, 4 state, 5 error or '', 6 step that ended or '', 7 number of the write,
--      8 sealed credentials or '', 9… events
-- returns {'ok', '1' if cancel was asked, rev, the sealed credentials that are stored} | {'stale'} | {'late'}
local id, now = ARGV[1], now_ms()
local mine, was, cancel, wrote, rev, bench, seq = owned(id, ARGV[2], 'state', 'cancel', 'wrote', 'rev', 'bench', 'seq')
if not mine then return { 'stale' } end
local sealed = ''
if ARGV[8] ~= '' then -- those of a former attempt stay, so that the same pair is set again
  redis.call('SET', P .. 'credentials:' .. id, ARGV[8], 'NX')
  sealed = redis.call('GET', P .. 'credentials:' .. id)
end
local mark = redis.sha1hex(table.concat(ARGV, '\n', 1, 6) .. '\n' .. table.concat(ARGV, '\n', 8))
if wrote == mark then return { 'ok', cancel or '', rev, sealed } end
if tonumber(ARGV[7]) <= (tonumber(seq) or 0) then return { 'late' } end
if was ~= ARGV[4] then move(id, ARGV[4]) end
rev = int(tonumber(rev) + #ARGV - 8)
local fields = { 'steps', ARGV[3], 'wrote', mark, 'rev', rev, 'updatedAt', int(now), 'seq', ARGV[7] }
if ARGV[5] ~= '' then
  fields[#fields + 1] = 'error'
  fields[#fields + 1] = ARGV[5]
end
if ARGV[6] ~= '' then
  fields[#fields + 1] = 'rescues'
  fields[#fields + 1] = '0'
end
redis.call('HSET', KEYS[1], unpack(fields))
if ARGV[6] ~= '' and ARGV[4] == 'running' then breaker_success(bench or '', ARGV[6], now) end
announce(id, now, rev, ARGV[4], unpack(ARGV, 9))
return { 'ok', cancel or '', rev, sealed }
