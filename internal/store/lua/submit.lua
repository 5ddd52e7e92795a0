-- Records a job, or returns the job of an earlier equal request.
-- KEYS[1] job record; further keys are derived from {nexus}: and the arguments
-- ARGV 1 id, 2 kind, 3 site, 4 actor, 5 spec, 6 steps, 7 give up after ms,
--      8 key id, 9 sealed input or '', 10 trace parent, 11 idempotency key or '',
--      12 fingerprint to store, 13 all fingerprints joined by |, 14 email, 15 plan, 16 first event,
--      17 ms until a suspended tenant is purged, 18 ms for which a removed name is reserved,
--      19 event and 20 error of a job that this one supersedes, 21 event of this job in that case ({job}: the other's id),
--      22 retention ms, 23 other names of the idempotency key, one per line, 24 of a machine job: the key of what it
--      makes, 25 its bench, 26 of a standby's job: its database, 27 its template, 28 the most standbys that the shelf
--      then has, 29… pairs: bucket, most jobs per hour
-- A job that suspends or removes a tenant supersedes a parked job on it, or a key job that
-- waits or was not taken yet: this script ends the other job as canceled.
-- returns {'ok'|'replay', fields of the record} | {'reused'} | {'taken'} | {'busy'} | {'unknown'}
--      | {'unfit', state of the tenant} | {'limited', bucket, ms until the hour is over}
local id, kind, site = ARGV[1], ARGV[2], ARGV[3]
local key, tenant, now = KEYS[1], P .. 'tenant:' .. ARGV[3], now_ms()
local idem = P .. 'idem:' .. ARGV[11]

-- go-redis sends the script again when an answer was lost. The record is from the first
-- time then.
if redis.call('EXISTS', key) == 1 then return { 'ok', redis.call('HGETALL', key) } end

-- Redis does not undo a script that fails, so check the right to the last write first.
if redis.acl_check_cmd and not redis.acl_check_cmd('XADD', P .. 'events:' .. id) then
  return redis.error_reply('NOPERM no right to XADD')
end

for name in string.gmatch(ARGV[11] ~= '' and ARGV[11] .. '\n' .. ARGV[23] or '', '[^\n]+') do
  local seen = redis.call('HMGET', P .. 'idem:' .. name, 'job', 'fingerprint')
  if seen[1] and redis.call('EXISTS', job_key(seen[1])) == 1 then
    if not string.find('|' .. ARGV[13] .. '|', '|' .. seen[2] .. '|', 1, true) then return { 'reused' } end
    return { 'replay', redis.call('HGETALL', job_key(seen[1])) }
  end
end

-- The states of the tenant that each kind of job needs, and the state that it sets.
local moves = {
  teardown = { from = { active = true, suspended = true }, to = 'deleting' },
  suspend = { from = { active = true }, to = 'suspended' },
  restore = { from = { suspended = true }, to = 'suspended' },
  rotate_key = { from = { active = true }, to = 'active' },
}
local fit = moves[kind]
local row = redis.call('HMGET', tenant, 'job', 'state', 'madeBy', 'bench', 'db')

-- superseded returns the state that the tenant has without the other job on it; nil if that
-- job is not superseded.
local function superseded(other)
  if other == '' or (kind ~= 'suspend' and kind ~= 'teardown') then return nil end
  local its, state = get(other, 'kind'), get(other, 'state')
  if its == 'rotate_key' and (state == 'queued' and get(other, 'taken') == '0' or state == 'waiting' or state == 'rollback_failed') then
    return 'active'
  end
  if state ~= 'rollback_failed' then return nil end
  if its == 'suspend' then return 'active' end
  if its == 'restore' then return kind == 'suspend' and 'active' or 'suspended' end
  if its == 'teardown' and kind == 'teardown' then return get(other, 'was') end
  return nil
end

local other
if kind == 'template' then
  local last = redis.call('HGET', P .. 'builds:' .. ARGV[25], ARGV[24])
  local state = last and get(last, 'state')
  if state and state ~= '' and not over(state) then return { 'busy' } end
elseif kind == 'standby' then
  if stock(ARGV[25], ARGV[24]) >= tonumber(ARGV[28]) then return { 'busy' } end
elseif not fit then
  if row[2] or redis.call('EXISTS', P .. 'resting:' .. site) == 1 then return { 'taken' } end
else
  if not row[2] then return { 'unknown' } end
  if row[1] ~= '' then
    local without = superseded(row[1])
    if not without then return { 'busy' } end
    other, row[2] = row[1], without
  end
  if not fit.from[row[2]] then return { 'unfit', row[2] } end
  -- A purge is for one purge date: since it was found due, the tenant may have been
  -- restored, or a restore may have failed.
  if string.sub(ARGV[11], 1, 6) == 'purge:' and (redis.call('HGET', tenant, 'state') ~= 'suspended'
    or other and get(other, 'kind') ~= 'suspend'
    or ARGV[11] ~= 'purge:' .. site .. ':' .. (redis.call('HGET', tenant, 'purgeAt') or '')) then
    return { 'unfit', row[2] }
  end
end

-- Fixed windows of an hour. All are checked before any is charged.
for i = 29, #ARGV, 2 do
  local window = P .. 'rate:' .. ARGV[i]
  if tonumber(redis.call('GET', window) or '0') >= tonumber(ARGV[i + 1]) then
    return { 'limited', ARGV[i], int(redis.call('PTTL', window)) }
  end
end
for i = 29, #ARGV, 2 do
  local window = P .. 'rate:' .. ARGV[i]
  if redis.call('INCR', window) == 1 then redis.call('PEXPIRE', window, 3600000) end
end

local owner, bench, db, was = id, '', '', ''
if MACHINE[kind] then -- it has no tenant
  if kind == 'template' then redis.call('HSET', P .. 'builds:' .. ARGV[25], ARGV[24], id) end
  if kind == 'standby' then add_standby(id, ARGV[25], ARGV[24], ARGV[27], ARGV[26], 'making', now) end
  bench = ARGV[25]
elseif not fit then
  redis.call('HSET', tenant, 'site', site, 'plan', ARGV[15], 'email', ARGV[14],
    'bench', '', 'db', '', 'madeBy', id, 'job', id, 'createdAt', int(now), 'state', 'making')
  redis.call('ZADD', P .. 'tenants:making', 0, site)
  redis.call('ZADD', P .. 'tenants', 0, site)
else
  if other then
    redis.call('HSET', job_key(other), 'cancel', '1', 'error', ARGV[20])
    end_job(other, 'canceled', now, ARGV[22], ARGV[19])
  end
  was, owner, bench, db = row[2], row[3], row[4], row[5]
  move_tenant(site, fit.to)
  redis.call('HSET', tenant, 'job', id)
  if kind == 'suspend' then
    local purge = int(now + tonumber(ARGV[17]))
    redis.call('HSET', tenant, 'purgeAt', purge)
    redis.call('ZADD', DUE, purge, 'tenant:' .. site)
  end
end

local give_up = now + tonumber(ARGV[7])
redis.call('HSET', key, 'id', id, 'kind', kind, 'site', site, 'actor', ARGV[4], 'state', 'queued',
  'spec', ARGV[5], 'steps', ARGV[6], 'bench', bench, 'db', db, 'owner', owner, 'was', was,
  'giveUpAt', int(give_up), 'createdAt', int(now), 'submitted', int(mint(0)), 'dispatch', '1', 'taken', '0', 'gen', '0',
  'leaseUntil', '0', 'nextAt', '0', 'rescues', '0', 'looks', '0', 'rev', '1', 'updatedAt', int(now), 'cancel', '0',
  'keyID', ARGV[8], 'trace', ARGV[10], 'rest', ARGV[18])
redis.call('ZADD', P .. 'jobs', int(now), id)
redis.call('ZADD', state_index(kind, 'queued'), int(now), id)
local lists = { P .. 'jobs', state_index(kind, 'succeeded'), state_index(kind, 'failed'), state_index(kind, 'canceled') }
sweep(lists[1 + (tonumber(string.sub(id, -1), 16) or 0) % #lists]) -- the id is random
if ARGV[9] ~= '' then redis.call('SET', P .. 'input:' .. id, ARGV[9], 'PX', int(tonumber(ARGV[7]) + 3600000)) end
if ARGV[11] ~= '' then
  redis.call('HSET', idem, 'job', id, 'fingerprint', ARGV[12])
  redis.call('PEXPIRE', idem, 86400000)
end
redis.call('ZADD', DUE, int(now + 1000), id)
announce(id, now, 1, 'queued', other and (string.gsub(ARGV[21], '{job}', other)) or ARGV[16])
return { 'ok', redis.call('HGETALL', key) }
