-- Prepended to every script, after lib_pool.lua: the end of a job, and who may write it.

-- forget_tenant deletes a tenant's row and its timer; after a purge the name is reserved
-- for the job's `rest` (ms).
local function forget_tenant(id, site)
  move_tenant(site, '')
  redis.call('ZREM', DUE, 'tenant:' .. site)
  local rest = num(id, 'rest')
  if rest > 0 then redis.call('SET', P .. 'resting:' .. site, id, 'PX', int(rest)) end
end

-- settle_tenant updates the tenant's row at the end of the job that held it.
local function settle_tenant(id, state)
  local kind, site, submitted = unpack(redis.call('HMGET', job_key(id), 'kind', 'site', 'submitted'))
  local tenant, done = P .. 'tenant:' .. site, state == 'succeeded'
  local holder, settled = unpack(redis.call('HMGET', tenant, 'job', 'stateGen'))
  if holder ~= id then return end
  -- The token of the job that last settled the state. The bench's marker has it too, so
  -- the doctor can tell which of the two was restored from a backup.
  if kind ~= 'rotate_key' and (tonumber(submitted) or 0) > (tonumber(settled) or 0) then settled = submitted end
  redis.call('HSET', tenant, 'job', '', 'stateGen', settled or '')
  if kind == 'provision' or kind == 'adopt' then
    if not done then return forget_tenant(id, site) end
    move_tenant(site, 'active')
  elseif kind == 'teardown' and done then
    redis.call('DEL', P .. 'credentials:' .. get(id, 'owner'), P .. 'pickup:' .. get(id, 'owner'))
    forget_tenant(id, site)
  elseif kind == 'restore' and done or kind == 'suspend' and not done then
    move_tenant(site, 'active')
    redis.call('HDEL', tenant, 'purgeAt')
    redis.call('ZREM', DUE, 'tenant:' .. site)
  elseif not done then
    move_tenant(site, get(id, 'was'))
    local purge = redis.call('HGET', tenant, 'purgeAt')
    if num(id, 'rest') > 0 and state == 'canceled' then -- by somebody who does not want the purge
      redis.call('HDEL', tenant, 'purgeAt')
      redis.call('ZREM', DUE, 'tenant:' .. site)
    elseif purge and kind == 'teardown' then
      -- The timer may be gone, since a tenant in removal has none. A purge that the bench
      -- refuses is tried again a day later.
      if num(id, 'rest') > 0 then purge = int(now_ms() + 86400000) end
      redis.call('ZADD', DUE, purge, 'tenant:' .. site)
    end
  end
end

-- condense shrinks the record of a finished job, which is kept for a month. It deletes the
-- fields that only a live job needs, and copies record and stream: a copy has the exact
-- size, while Redis allocates 4 KB for a stream's last node
-- (STREAM_LISTPACK_MAX_PRE_ALLOCATE) and keeps the table of a hash that lost fields.
local function condense(id)
  local key, events = job_key(id), P .. 'events:' .. id
  redis.call('HDEL', key, 'wrote', 'seq', 'former', 'looks', 'askedAt', 'asked', 'nextAt', 'leaseUntil', 'waitingFor',
    'waitNote', 'waitKey', 'waitFrom', 'was', 'rest', 'rescues', 'submitted', 'dispatch', 'taken', 'standby', 'trace')
  local state, cancel, template, owner = unpack(redis.call('HMGET', key, 'state', 'cancel', 'template', 'owner'))
  if cancel == '0' then redis.call('HDEL', key, 'cancel') end
  if template == '' then redis.call('HDEL', key, 'template') end
  if owner == id then redis.call('HDEL', key, 'owner') end -- without one the owner is the job itself
  if state == 'succeeded' then redis.call('HDEL', key, 'spec') end -- what it made has it, as long as it is there
  for _, whole in ipairs({ key, events }) do
    if redis.call('COPY', whole, P .. 'copy:' .. id, 'REPLACE') == 1 then redis.call('RENAME', P .. 'copy:' .. id, whole) end
  end
end

-- end_job is common to all ends: it removes timer, lease, slot and sealed input. A
-- terminal job gets its time to live; a failed or canceled signup frees its name. What a
-- standby's job has made is put on its shelf.
local function end_job(id, state, now, retention, body)
  local key = job_key(id)
  move(id, state)
  redis.call('ZREM', DUE, id)
  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', P .. 'left', id)
  free_slot(id, now)
  emit(id, now, body)
  if state == 'rollback_failed' then
    redis.call('HSET', key, 'leaseUntil', '0', 'nextAt', '0', 'waitingFor', '', 'waitNote', '')
    redis.call('HDEL', key, 'waitKey', 'waitFrom')
    settle_standby(id, state, now)
    return
  end
  redis.call('DEL', P .. 'input:' .. id)
  settle_tenant(id, state)
  settle_standby(id, state, now)
  if state == 'succeeded' then
    redis.call('PEXPIRE', P .. 'credentials:' .. id, 86400000)
  else
    redis.call('DEL', P .. 'credentials:' .. id)
  end
  condense(id)
  -- Nobody looks for a standby's job that went well, and there are as many as signups.
  if state == 'succeeded' and MACHINE[get(id, 'kind')] then retention = int(math.min(tonumber(retention), 86400000)) end
  redis.call('PEXPIRE', key, retention)
  redis.call('PEXPIRE', P .. 'events:' .. id, retention)
end

-- owned tells whether a run may write: its token is the newest, and the job is neither
-- terminal nor parked. The values of further fields follow; false: there is none.
local function owned(id, gen, ...)
  local all = redis.call('HMGET', job_key(id), 'state', 'gen', ...)
  return all[2] == gen and not over(all[1]) and all[1] ~= 'rollback_failed', unpack(all, 3)
end

-- raised tells whether a run's token was replaced by a higher one of the same run, which
-- may not know it yet: the answer is on its way, or was lost.
local function raised(id, gen)
  local newest, former = unpack(redis.call('HMGET', job_key(id), 'gen', 'former'))
  return former == gen and newest ~= '0' and owned(id, newest)
end
