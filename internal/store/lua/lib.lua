-- Prepended to every script. All keys share the hash tag {nexus}, so they are in one
-- slot and a script may use any of them: a script is a transaction. Records are hashes
-- of strings; times are milliseconds of Redis' own clock; gens (fencing tokens) are
-- microseconds, as text. No script encodes JSON: real Redis rounds large numbers and
-- turns [] into {}.
local P = '{nexus}:'
local DUE = P .. 'due'
local LEASES = P .. 'leases' -- when each lease expires. It is separate from DUE, so that a rescue never waits behind other due jobs

local function int(n) return string.format('%.0f', n) end

local clock -- when this script began, in microseconds; nil: not read yet

local function now_us()
  if not clock then
    local t = redis.call('TIME')
    clock = tonumber(t[1]) * 1000000 + tonumber(t[2])
  end
  return clock
end

local function now_ms() return math.floor(now_us() / 1000) end

local function job_key(id) return P .. 'job:' .. id end

local function get(id, field) return redis.call('HGET', job_key(id), field) or '' end

local function num(id, field) return tonumber(get(id, field)) or 0 end

-- Each job is in the index of its kind and state, each tenant in the index of its state;
-- the lists of the API read them. Only move, move_tenant and submit.lua change a state.
local function state_index(kind, state) return P .. 'jobs:' .. kind .. ':' .. state end

-- move gives a job a state.
local function move(id, state)
  local kind, was, at = unpack(redis.call('HMGET', job_key(id), 'kind', 'state', 'createdAt'))
  if was == state then return end
  redis.call('HSET', job_key(id), 'state', state)
  redis.call('ZREM', state_index(kind, was), id)
  redis.call('ZADD', state_index(kind, state), at, id)
end

-- move_tenant gives a tenant's row a state; '' deletes the row and its index entries.
local function move_tenant(site, state)
  local row = P .. 'tenant:' .. site
  local was = redis.call('HGET', row, 'state')
  if was == state then return end
  if was then redis.call('ZREM', P .. 'tenants:' .. was, site) end
  if state == '' then
    redis.call('DEL', row)
    redis.call('ZREM', P .. 'tenants', site)
  else
    redis.call('HSET', row, 'state', state)
    redis.call('ZADD', P .. 'tenants:' .. state, 0, site)
  end
end

-- sweep removes entries of expired records from an index of jobs. It looks at the ten
-- oldest and at ten anywhere, since the oldest jobs may be the ones that do not expire.
local function sweep(list)
  local many = redis.call('ZCARD', list)
  if many == 0 then return end
  for _, from in ipairs({ 0, now_us() % many }) do
    local some, keys = redis.call('ZRANGE', list, int(from), int(from + 9)), {}
    for i, old in ipairs(some) do keys[i] = job_key(old) end
    if #some > 0 and redis.call('EXISTS', unpack(keys)) < #some then
      for i, old in ipairs(some) do
        if redis.call('EXISTS', keys[i]) == 0 then redis.call('ZREM', list, old) end
      end
    end
  end
end

-- announce appends events, the last one with this rev, and publishes the job's id for
-- its watchers. A stream entry's id is the rev. A refused PUBLISH does not fail the
-- script: watchers also poll, and the probe reports the missing right.
local function announce(id, now, rev, state, ...)
  local bodies = { ... }
  for i, body in ipairs(bodies) do
    redis.call('XADD', P .. 'events:' .. id, 'MAXLEN', '~', 1000, int(rev - #bodies + i) .. '-0',
      'at', int(now), 'state', state, 'body', body)
  end
  redis.pcall('PUBLISH', P .. 'wake', id)
end

-- emit raises the job's rev and appends events, at least one.
local function emit(id, now, ...)
  local rev, state = unpack(redis.call('HMGET', job_key(id), 'rev', 'state'))
  rev = (tonumber(rev) or 0) + select('#', ...)
  redis.call('HSET', job_key(id), 'rev', int(rev), 'updatedAt', int(now))
  announce(id, now, rev, state, ...)
end

-- emit_wait appends the events of a wait. If the job already waited for the same reason,
-- the events of the last wait and of the attempt since are deleted first, so that a
-- repeated wait keeps one event. Events of people, and of steps that ended, stay.
local function emit_wait(id, now, why, ...)
  local key, stream = job_key(id), P .. 'events:' .. id
  local was, from, rev = unpack(redis.call('HMGET', key, 'waitKey', 'waitFrom', 'rev'))
  if was == why and from then
    for _, entry in ipairs(redis.call('XRANGE', stream, from .. '-0', '+', 'COUNT', 50)) do
      local body = entry[2][6]
      if not string.find(body, '"actor"', 1, true) and not string.find(body, '"stepState":"done"', 1, true)
        and not string.find(body, '"stepState":"undone"', 1, true) then
        redis.call('XDEL', stream, entry[1])
      end
    end
  end
  redis.call('HSET', key, 'waitKey', why, 'waitFrom', int(tonumber(rev) + 1))
  emit(id, now, ...)
end

-- How far ahead of Redis' clock, in microseconds, a token that a bench reports may be
-- (nexus.GenAhead in Go). The last minted token may be a day further, since clocks are
-- set back. A token beyond that is corrupt: above 2^53 Lua's numbers stop growing.
local GEN_AHEAD = 7 * 86400 * 1000000
local GEN_BROKEN = 8 * 86400 * 1000000

-- mint returns the next fencing token, above the last one and above the given one. It
-- grows across owners, jobs, failovers and restored backups. Nil: the given token is
-- corrupt. A corrupt last token is ignored.
local function mint(above)
  local now = now_us()
  local last = tonumber(redis.call('GET', P .. 'gen') or '0') or 0
  if above > now + GEN_AHEAD then return nil end
  if last > now + GEN_BROKEN then last = 0 end
  local gen = math.max(last + 1, now, above + 1)
  redis.call('SET', P .. 'gen', int(gen))
  return gen
end

-- A waiter that is due and has not asked for this long (ms) loses its place: its job is
-- stuck elsewhere, and must not block the queue behind it.
local WAITER_STALE = 90000
-- The most waiters one script looks at, so that its cost does not grow with the queue.
local LOOKS = 64
local SLOT_TTL = 20000

local function purge_slots(bench, now)
  redis.call('ZREMRANGEBYSCORE', P .. 'slots:' .. bench, '-inf', int(now))
end

-- is_cleanup tells whether a job rolls back (or will, since it was canceled or is out of
-- time) or is an operator's on a tenant. Such a job never waits behind new signups.
local function is_cleanup(id)
  local kind, state, cancel, till = unpack(redis.call('HMGET', job_key(id), 'kind', 'state', 'cancel', 'giveUpAt'))
  return kind ~= 'provision' and kind ~= 'template' or state == 'rolling_back' or cancel == '1' or (tonumber(till) or 0) < now_ms()
end

-- make_due schedules a waiting job at once. A job that is dispatched, or that a worker
-- holds, is left alone: its worker asks for a slot by itself.
local function make_due(bench, id, now)
  local taken, dispatch, lease, at = unpack(redis.call('HMGET', job_key(id), 'taken', 'dispatch', 'leaseUntil', 'nextAt'))
  if taken ~= dispatch or lease ~= '0' or at == '0' then return end
  redis.call('HSET', job_key(id), 'nextAt', '0')
  redis.call('HSET', P .. 'asking:' .. bench, id, int(now))
  redis.call('ZADD', DUE, 'XX', int(now), id)
end

-- first_waiters returns the ids at the head of a bench's queue: at most `limit`, and
-- only those before `till`, if given. Stale waiters are removed until they ask again.
-- Nil: there were too many stale ones to look at all of them in one script.
local function first_waiters(bench, now, limit, till)
  local waiters, asking, out, gone = P .. 'waiters:' .. bench, P .. 'asking:' .. bench, {}, 0
  while #out < limit do
    local w = redis.call('ZRANGE', waiters, #out, #out)[1]
    if not w or w == till then return out end
    local asked = tonumber(redis.call('HGET', asking, w) or '0')
    if asked + WAITER_STALE < now and num(w, 'nextAt') + WAITER_STALE < now then
      if gone == LOOKS then return nil end
      gone = gone + 1
      redis.call('ZREM', waiters, w)
      redis.call('HDEL', asking, w)
    else
      out[#out + 1] = w
    end
  end
  return out
end

-- room is the number of free slots of a bench, of those that its workers announced.
local function room(bench)
  local slots = tonumber(redis.call('HGET', P .. 'bench:' .. bench, 'slots') or '1')
  return slots - redis.call('ZCARD', P .. 'slots:' .. bench)
end

-- wake schedules the waiters that may now get a slot: the first `room` of the queue, and
-- any clean-up job among its first 50.
local function wake(bench, now)
  if redis.call('ZCARD', P .. 'waiters:' .. bench) == 0 then return end
  for _, id in ipairs(first_waiters(bench, now, math.min(LOOKS, math.max(1, room(bench)))) or {}) do make_due(bench, id, now) end
  for _, id in ipairs(redis.call('ZRANGE', P .. 'waiters:' .. bench, 0, 49)) do
    if is_cleanup(id) then make_due(bench, id, now) end
  end
end

-- next_ask is the time at which a waiter asks again by itself: after a minute near the
-- head of the queue, after up to an hour far behind. wake schedules it earlier.
local function next_ask(bench, id, now)
  local rank = redis.call('ZRANK', P .. 'waiters:' .. bench, id) or 0
  local at = now + math.min(3600000, 60000 * (1 + math.floor(rank / 200)))
  local till = num(id, 'giveUpAt')
  if rank >= 200 and till > now then at = math.min(at, till) end
  return at
end

-- mode is what a bench admits: 'open'; 'paused' or 'drained' by an operator; 'tripped'
-- by the breaker, and 'trying', with one slot, once the breaker's time has passed.
local function mode(bench, now)
  local set, till = unpack(redis.call('HMGET', P .. 'bench:' .. bench, 'mode', 'until'))
  if not set then return 'open' end
  if set == 'tripped' and (tonumber(till) or 0) <= now then return 'trying' end
  return set
end

-- reopen clears a bench's pause and breaker and schedules its first waiters; tend
-- schedules the others as slots become free.
local function reopen(bench, now)
  redis.call('DEL', P .. 'blamers:' .. bench)
  redis.call('HDEL', P .. 'bench:' .. bench, 'mode', 'by', 'until', 'trips', 'step', 'code', 'failures')
  wake(bench, now)
end

-- breaker_success resets the breaker when the step that had failed in a row succeeds.
-- While the bench is tripped it does nothing: the step may have begun before.
local function breaker_success(bench, step, now)
  if bench == '' or redis.call('HGET', P .. 'bench:' .. bench, 'step') ~= step then return end
  local is = mode(bench, now)
  if is == 'tripped' then return end
  redis.call('HDEL', P .. 'bench:' .. bench, 'step', 'code', 'failures')
  redis.call('DEL', P .. 'blamers:' .. bench)
  if is == 'trying' then reopen(bench, now) end
end

local function free_slot(id, now)
  local bench, asked = unpack(redis.call('HMGET', job_key(id), 'bench', 'asked'))
  if bench == '' then bench = asked end
  if not bench then return end
  local removed = redis.call('ZREM', P .. 'slots:' .. bench, id)
  redis.call('ZREM', P .. 'waiters:' .. bench, id)
  redis.call('HDEL', P .. 'asking:' .. bench, id)
  if removed == 1 then wake(bench, now) end
end

-- admits tells whether a bench with `cap` slots has one for this job now: the job is among
-- the first waiters, as many as there are free slots, or it is a clean-up.
local function admits(id, bench, cap, now)
  local is, cleanup = mode(bench, now), is_cleanup(id)
  if is == 'drained' or not cleanup and (is == 'paused' or is == 'tripped') then return false end
  if cleanup then cap = cap + 1 elseif is == 'trying' then cap = 1 end
  local free = cap - redis.call('ZCARD', P .. 'slots:' .. bench)
  if cleanup or free <= 0 then return free > 0 end
  local before = first_waiters(bench, now, free, id)
  return before ~= nil and #before < free
end

-- tend schedules the first waiters of a bench that has room. wake alone is not enough:
-- no script runs when a slot expires, and one wake schedules a few waiters only. It
-- costs little while there is no room.
local function tend(bench, now)
  if redis.call('ZCARD', P .. 'waiters:' .. bench) == 0 then return end
  purge_slots(bench, now)
  local is, free = mode(bench, now), room(bench)
  if is == 'trying' then free = 1 - redis.call('ZCARD', P .. 'slots:' .. bench) end
  if free <= 0 or is ~= 'open' and is ~= 'trying' then return end
  for _, id in ipairs(first_waiters(bench, now, math.min(LOOKS, free)) or {}) do make_due(bench, id, now) end
end

-- slot takes or renews an admission slot, in the order of first requests. True: the job
-- has a slot; else it is in the queue.
local function slot(id, bench, cap, now)
  local slots = P .. 'slots:' .. bench
  purge_slots(bench, now)
  if redis.call('ZSCORE', slots, id) then
    redis.call('ZADD', slots, int(now + SLOT_TTL), id)
    return true
  end
  -- The time of its first request stays its place in the queue, so that a half-made
  -- site that gave its slot back for a retry goes before jobs that have not begun.
  local first = num(id, 'askedAt')
  if first == 0 then
    first = now
    redis.call('HSET', job_key(id), 'askedAt', int(now), 'asked', bench)
  end
  if admits(id, bench, cap, now) then
    redis.call('ZADD', slots, int(now + SLOT_TTL), id)
    redis.call('ZREM', P .. 'waiters:' .. bench, id)
    redis.call('HDEL', P .. 'asking:' .. bench, id)
    return true
  end
  redis.call('ZADD', P .. 'waiters:' .. bench, 'NX', int(first), id)
  redis.call('HSET', P .. 'asking:' .. bench, id, int(now))
  return false
end

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
    'waitNote', 'waitKey', 'waitFrom', 'was', 'rest', 'rescues', 'submitted', 'build')
  for _, whole in ipairs({ key, events }) do
    if redis.call('COPY', whole, P .. 'copy:' .. id, 'REPLACE') == 1 then redis.call('RENAME', P .. 'copy:' .. id, whole) end
  end
end

-- end_job is common to all ends: it removes timer, lease, slot and sealed input. A
-- terminal job gets its time to live; a failed or canceled signup frees its name.
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
    return
  end
  redis.call('DEL', P .. 'input:' .. id)
  settle_tenant(id, state)
  local build = get(id, 'build')
  if build ~= '' and redis.call('HGET', P .. 'builds', build) == id then redis.call('HDEL', P .. 'builds', build) end
  if state == 'succeeded' then
    redis.call('PEXPIRE', P .. 'credentials:' .. id, 86400000)
  else
    redis.call('DEL', P .. 'credentials:' .. id)
  end
  condense(id)
  redis.call('PEXPIRE', key, retention)
  redis.call('PEXPIRE', P .. 'events:' .. id, retention)
end

local function over(state)
  return state == 'succeeded' or state == 'failed' or state == 'canceled'
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
