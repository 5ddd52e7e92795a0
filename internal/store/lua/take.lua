-- Gives the lease of a job to the worker that got this dispatch, and mints its fencing
-- token. Each dispatch can be taken once.
-- KEYS[1] job record
-- ARGV 1 id, 2 dispatch, 3 lease ms, 4 slots of the bench, 5 event of the start,
--      6 event and 7 sentence of a wait for room, 8 event and 9 sentence of a wait for a paused bench,
--      10 '1' if 11 to 13 say what the worker can do: 11 its bench or '' (any), 12 steps and 13 sealing
--      keys, each name between two spaces
-- returns {'ok', fields, sealed input or false} | {'absent'} | {'over'} | {'stale'} | {'held'} | {'capacity'}
-- | {'foreign', what the worker lacks, ms of the record's last change}
local id, key, now = ARGV[1], KEYS[1], now_ms()
local state, dispatch, taken, lease, bench, waits, kind, key_id, cancel, till, updated = unpack(redis.call('HMGET', key,
  'state', 'dispatch', 'taken', 'leaseUntil', 'bench', 'waitingFor', 'kind', 'keyID', 'cancel', 'giveUpAt', 'updatedAt'))
if not state then return { 'absent' } end
if over(state) or state == 'rollback_failed' then return { 'over' } end
if dispatch ~= ARGV[2] or tonumber(taken) >= tonumber(ARGV[2]) then return { 'stale' } end
if tonumber(lease) > now then return { 'held' } end

local function has(list, name) return string.find(list, ' ' .. name, 1, true) end

-- lacking returns what the worker lacks for this job; nil: nothing. During a rolling deploy
-- an old worker meets kinds, steps and keys that it does not know.
local function lacking()
  if not has(ARGV[12], kind .. '/') then return 'unknown kind ' .. kind end
  for _, step in ipairs(cjson.decode(get(id, 'steps'))) do
    local name = step[1] or step.name -- a former version stored objects
    if not has(ARGV[12], kind .. '/' .. name .. ' ') then return 'unknown step ' .. name end
  end
  -- On another bench a removal would find nothing of the tenant, and succeed.
  if ARGV[11] ~= '' and bench ~= '' and bench ~= ARGV[11] then return 'it is on the bench ' .. bench .. ', not on ' .. ARGV[11] end
  -- A job that rolls back, or has to, needs no sealing key, so a lost key never blocks the
  -- job or its site name.
  if key_id ~= '' and not has(ARGV[13], key_id .. ' ') and state ~= 'rolling_back' and cancel ~= '1' and tonumber(till) > now then
    return 'unknown key ' .. key_id
  end
end
local why = ARGV[10] == '1' and lacking()
if why then return { 'foreign', why, updated } end

-- A full Redis refuses only the first write of a script, and only one that takes memory.
if bench ~= '' then redis.call('HSET', key, 'looks', '0') end
local lane = lane_for(bench, kind)
if bench ~= '' and not slot(id, lane, tonumber(ARGV[4]), now) then
  local open, at = mode(lane, now) == 'open', next_ask(lane, id, now)
  if state ~= 'rolling_back' then move(id, 'waiting') end
  redis.call('HDEL', P .. 'left', id)
  redis.call('HSET', key, 'taken', dispatch, 'waitingFor', open and 'capacity' or 'bench', 'waitNote', open and ARGV[7] or ARGV[9],
    'nextAt', int(at), 'leaseUntil', '0', 'gen', '0') -- so that its former owner does not go on without a slot
  redis.call('ZADD', DUE, int(at), id)
  redis.call('ZREM', LEASES, id)
  emit_wait(id, now, (open and 'capacity' or 'bench') .. (open and ARGV[6] or ARGV[8]), open and ARGV[6] or ARGV[8])
  return { 'capacity' }
end

redis.call('HSET', key, 'taken', dispatch, 'looks', '0', 'gen', int(mint(0)), 'former', '',
  'leaseUntil', int(now + tonumber(ARGV[3])), 'waitingFor', '', 'waitNote', '', 'nextAt', '0', 'seq', '0')
redis.call('HDEL', P .. 'left', id)
redis.call('ZADD', DUE, int(now + tonumber(ARGV[3])), id)
redis.call('ZADD', LEASES, int(now + tonumber(ARGV[3])), id)
if state == 'queued' or state == 'waiting' then
  move(id, 'running')
  emit(id, now, ARGV[5])
elseif waits and waits ~= '' then -- watchers must see that it no longer waits
  emit(id, now, ARGV[5])
end
return { 'ok', redis.call('HGETALL', key), redis.call('GET', P .. 'input:' .. id) }
