-- Prepended to every script. All keys share the hash tag {nexus}: one slot, so
-- that a script may touch any of them and is a transaction. Records are hashes
-- of strings; times are milliseconds of Redis' own clock; gens are µs as text.
-- No script encodes JSON: real Redis rounds large numbers and turns [] into {}.
local P = '{nexus}:'
local DUE = P .. 'due'
local LEASES = P .. 'leases' -- when they run out: a rescue waits behind nothing else that is due

local function int(n) return string.format('%.0f', n) end

local function now_us()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function now_ms() return math.floor(now_us() / 1000) end

local function job_key(id) return P .. 'job:' .. id end

local function get(id, field) return redis.call('HGET', job_key(id), field) or '' end

local function num(id, field) return tonumber(get(id, field)) or 0 end

-- A job is in the list of its kind and state, a tenant in that of its state, for
-- whoever lists them. Only the next three functions change a state.
local function state_index(kind, state) return P .. 'jobs:' .. kind .. ':' .. state end

-- move gives a job a state.
local function move(id, state)
  local kind, was, at = unpack(redis.call('HMGET', job_key(id), 'kind', 'state', 'createdAt'))
  if was == state then return end
  redis.call('HSET', job_key(id), 'state', state)
  redis.call('ZREM', state_index(kind, was), id)
  redis.call('ZADD', state_index(kind, state), at, id)
end

-- move_tenant gives a tenant's row a state; '' takes it out of the lists, with the row.
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

-- sweep drops entries whose records have expired from a list of jobs: among the
-- oldest, and some anywhere, since jobs at the head may live for long.
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

-- announce appends events, the last one at this rev, and wakes who waits. A
-- stream entry's id is the rev. A wake-up that may not be sent fails no script:
-- watchers look by themselves, and the probe tells of the missing right.
local function announce(id, now, rev, state, ...)
  local bodies = { ... }
  for i, body in ipairs(bodies) do
    redis.call('XADD', P .. 'events:' .. id, 'MAXLEN', '~', 1000, int(rev - #bodies + i) .. '-0',
      'at', int(now), 'state', state, 'body', body)
  end
  redis.pcall('PUBLISH', P .. 'wake', id)
end

-- emit journals events, at least one.
local function emit(id, now, ...)
  local rev = redis.call('HINCRBY', job_key(id), 'rev', select('#', ...))
  redis.call('HSET', job_key(id), 'updatedAt', int(now))
  announce(id, now, rev, get(id, 'state'), ...)
end

-- emit_wait journals what a job waits for. The same again is one event, renewed: what was
-- told of the last wait and of the try since goes, and only the rev has grown. A step that
-- came to an end meanwhile, and what somebody asked for, stay.
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

-- How far ahead of our clock, in us, a token may be that somebody has seen (nexus.GenAhead
-- in Go). The last one minted may be a day further, since clocks turn. Beyond, and above
-- 2^53 where numbers stop growing, no token is ours.
local GEN_AHEAD = 7 * 86400 * 1000000
local GEN_BROKEN = 8 * 86400 * 1000000

-- mint makes the next fencing token: it grows across owners, jobs, failovers and
-- restored backups. Nil if it should be above one that is none of ours. A last one that
-- is none of ours is forgotten.
local function mint(above)
  local now = now_us()
  local last = tonumber(redis.call('GET', P .. 'gen') or '0') or 0
  if above > now + GEN_AHEAD then return nil end
  if last > now + GEN_BROKEN then last = 0 end
  local gen = math.max(last + 1, now, above + 1)
  redis.call('SET', P .. 'gen', int(gen))
  return gen
end

-- A waiter that has not asked for this long, though its time has come, is passed over:
-- its job is stuck elsewhere, and must not block the queue behind it.
local WAITER_STALE = 90000
-- How many waiters one script looks at, however long the queue is.
local LOOKS = 64
local SLOT_TTL = 20000

local function purge_slots(bench, now)
  redis.call('ZREMRANGEBYSCORE', P .. 'slots:' .. bench, '-inf', int(now))
end

-- cleans tells whether a job cleans up (or is about to, canceled or out of time), or
-- is an operator's on a tenant: it must never starve behind what is new.
local function cleans(id)
  local kind, state, cancel, till = unpack(redis.call('HMGET', job_key(id), 'kind', 'state', 'cancel', 'giveUpAt'))
  return kind ~= 'provision' or state == 'rolling_back' or cancel == '1' or (tonumber(till) or 0) < now_ms()
end

-- rouse makes a waiter due that rests. What is on its way to a worker, or at work,
-- looks by itself.
local function rouse(bench, id, now)
  local taken, dispatch, lease, at = unpack(redis.call('HMGET', job_key(id), 'taken', 'dispatch', 'leaseUntil', 'nextAt'))
  if taken ~= dispatch or lease ~= '0' or at == '0' then return end
  redis.call('HSET', job_key(id), 'nextAt', '0')
  redis.call('HSET', P .. 'asking:' .. bench, id, int(now))
  redis.call('ZADD', DUE, 'XX', int(now), id)
end

-- line names the first live waiters, up to a limit or to one of them. Stale ones lose
-- their place until they ask again. Nil: there are too many of those to tell now.
local function line(bench, now, limit, till)
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

-- room is how many slots a bench has free, by what its workers announced.
local function room(bench)
  local slots = tonumber(redis.call('HGET', P .. 'bench:' .. bench, 'slots') or '1')
  return slots - redis.call('ZCARD', P .. 'slots:' .. bench)
end

-- wake makes due whoever may have a slot now: as many of the first waiters as
-- there is room, and what cleans up among the first fifty.
local function wake(bench, now)
  for _, id in ipairs(line(bench, now, math.min(LOOKS, math.max(1, room(bench)))) or {}) do rouse(bench, id, now) end
  for _, id in ipairs(redis.call('ZRANGE', P .. 'waiters:' .. bench, 0, 49)) do
    if cleans(id) then rouse(bench, id, now) end
  end
end

-- patience is when a waiter looks again by itself: each minute near the head of the
-- queue, up to once an hour far behind. It is roused when it may have a slot.
local function patience(bench, id, now)
  local rank = redis.call('ZRANK', P .. 'waiters:' .. bench, id) or 0
  local at = now + math.min(3600000, 60000 * (1 + math.floor(rank / 200)))
  local till = num(id, 'giveUpAt')
  if rank >= 200 and till > now then at = math.min(at, till) end
  return at
end

-- mode is whether a bench admits: 'open', an operator's 'paused' or 'drained', or
-- the breaker's 'tripped', which after its time is 'trying' with one slot.
local function mode(bench, now)
  local set, till = unpack(redis.call('HMGET', P .. 'bench:' .. bench, 'mode', 'until'))
  if not set then return 'open' end
  if set == 'tripped' and (tonumber(till) or 0) <= now then return 'trying' end
  return set
end

-- capacity is how many slots a bench gives to this job just now.
local function capacity(id, bench, cap, now)
  local is = mode(bench, now)
  if is == 'drained' then return 0 end
  if cleans(id) then return cap + 1 end
  if is == 'paused' or is == 'tripped' then return 0 end
  if is == 'trying' then return 1 end
  return cap
end

-- reopen lets who waits for a bench look again: the first at once, the others as
-- there is room for them, see tend.
local function reopen(bench, now)
  redis.call('DEL', P .. 'blamers:' .. bench)
  redis.call('HDEL', P .. 'bench:' .. bench, 'mode', 'by', 'until', 'trips', 'step', 'code', 'failures')
  wake(bench, now)
end

-- worked closes the breaker for a success of the step that failed in a row. While
-- a bench is tripped it proves nothing: the step may have begun before.
local function worked(bench, step, now)
  if bench == '' or redis.call('HGET', P .. 'bench:' .. bench, 'step') ~= step then return end
  local is = mode(bench, now)
  if is == 'tripped' then return end
  redis.call('HDEL', P .. 'bench:' .. bench, 'step', 'code', 'failures')
  redis.call('DEL', P .. 'blamers:' .. bench)
  if is == 'trying' then reopen(bench, now) end
end

local function free_slot(id, now)
  local bench = get(id, 'bench')
  if bench == '' then bench = get(id, 'asked') end
  if bench == '' then return end
  local removed = redis.call('ZREM', P .. 'slots:' .. bench, id)
  redis.call('ZREM', P .. 'waiters:' .. bench, id)
  redis.call('HDEL', P .. 'asking:' .. bench, id)
  if removed == 1 then wake(bench, now) end
end

-- turn tells whether a job may take one of so many free slots: it is its turn, or it
-- cleans up.
local function turn(bench, id, now, free)
  if free <= 0 then return false end
  if cleans(id) then return true end
  local before = line(bench, now, free, id)
  return before ~= nil and #before < free
end

-- tend rouses the first waiters of a bench that has room: a slot that ran out wakes
-- nobody, and one script wakes few. It costs little while there is no room.
local function tend(bench, now)
  if redis.call('ZCARD', P .. 'waiters:' .. bench) == 0 then return end
  purge_slots(bench, now)
  local is, free = mode(bench, now), room(bench)
  if is == 'trying' then free = 1 - redis.call('ZCARD', P .. 'slots:' .. bench) end
  if free <= 0 or is ~= 'open' and is ~= 'trying' then return end
  for _, id in ipairs(line(bench, now, math.min(LOOKS, free)) or {}) do rouse(bench, id, now) end
end

-- slot takes or renews an admission slot, first asked first served. True if the
-- job has one now; else it stands in the queue.
local function slot(id, bench, cap, now)
  local slots = P .. 'slots:' .. bench
  purge_slots(bench, now)
  if redis.call('ZSCORE', slots, id) then
    redis.call('ZADD', slots, int(now + SLOT_TTL), id)
    return true
  end
  -- The first time it asked is its place in line for good: what is half made, and gave
  -- its slot back for a retry, goes before all that has not begun.
  local first = num(id, 'askedAt')
  if first == 0 then
    first = now
    redis.call('HSET', job_key(id), 'askedAt', int(now), 'asked', bench)
  end
  local free = capacity(id, bench, cap, now) - redis.call('ZCARD', slots)
  if turn(bench, id, now, free) then
    redis.call('ZADD', slots, int(now + SLOT_TTL), id)
    redis.call('ZREM', P .. 'waiters:' .. bench, id)
    redis.call('HDEL', P .. 'asking:' .. bench, id)
    return true
  end
  redis.call('ZADD', P .. 'waiters:' .. bench, 'NX', int(first), id)
  redis.call('HSET', P .. 'asking:' .. bench, id, int(now))
  return false
end

-- forget_tenant deletes a row and what hangs on it; after a purge the name rests.
local function forget_tenant(id, site)
  move_tenant(site, '')
  redis.call('ZREM', DUE, 'tenant:' .. site)
  local rest = num(id, 'rest')
  if rest > 0 then redis.call('SET', P .. 'resting:' .. site, id, 'PX', int(rest)) end
end

-- settle gives the tenant's row back at the end of the job that held it.
local function settle(id, state)
  local kind, site = get(id, 'kind'), get(id, 'site')
  local tenant, done = P .. 'tenant:' .. site, state == 'succeeded'
  if redis.call('HGET', tenant, 'job') ~= id then return end
  redis.call('HSET', tenant, 'job', '')
  -- As of when the state holds: the bench's marker has the token of its own last
  -- change, so the doctor can tell which of the two was restored from a backup.
  if kind ~= 'rotate_key' and num(id, 'gen') > (tonumber(redis.call('HGET', tenant, 'stateGen')) or 0) then
    redis.call('HSET', tenant, 'stateGen', get(id, 'gen'))
  end
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
      -- The timer may be gone: while the tenant was on its way out it was not looked at.
      -- What the bench refuses is tried again once a day.
      if num(id, 'rest') > 0 then purge = int(now_ms() + 86400000) end
      redis.call('ZADD', DUE, purge, 'tenant:' .. site)
    end
  end
end

-- condense makes what is kept of a job that is over small: it is kept for a month. What
-- only a job under way needs goes. Redis gives a stream's last node 4 KB, used or not
-- (STREAM_LISTPACK_MAX_PRE_ALLOCATE); a copy has what it needs.
local function condense(id)
  local stream, copy = P .. 'events:' .. id, P .. 'copy:' .. id
  redis.call('HDEL', job_key(id), 'wrote', 'seq', 'former', 'looks', 'askedAt', 'asked', 'nextAt', 'leaseUntil', 'waitingFor', 'waitNote')
  if redis.call('COPY', stream, copy, 'REPLACE') == 1 then redis.call('RENAME', copy, stream) end
end

-- end_job is what every end has in common: no timer, no slot, no sealed input.
-- A terminal job gets its time to live; failed and canceled give the name back.
local function end_job(id, state, now, retention, body)
  local key = job_key(id)
  move(id, state)
  redis.call('HSET', key, 'leaseUntil', '0', 'nextAt', '0', 'waitingFor', '', 'waitNote', '')
  redis.call('ZREM', DUE, id)
  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', key, 'waitKey', 'waitFrom')
  redis.call('HDEL', P .. 'left', id)
  free_slot(id, now)
  emit(id, now, body)
  if state == 'rollback_failed' then return end
  redis.call('DEL', P .. 'input:' .. id)
  settle(id, state)
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

-- owned tells whether a run may write: its token is the newest, and the job is
-- neither over nor parked.
local function owned(id, gen)
  local state, newest = unpack(redis.call('HMGET', job_key(id), 'state', 'gen'))
  return newest == gen and not over(state) and state ~= 'rollback_failed'
end

-- raised tells whether a run's token was replaced by a higher one of its own, and the
-- run may not know of it yet: the answer is on its way, or was lost.
local function raised(id, gen)
  local newest, former = unpack(redis.call('HMGET', job_key(id), 'gen', 'former'))
  return former == gen and newest ~= '0' and owned(id, newest)
end
