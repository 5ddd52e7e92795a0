-- Prepended to every script, after lib.lua: who may work on a bench, and who waits.

-- A waiter that is due and has not asked for this long (ms) loses its place: its job is
-- stuck elsewhere, and must not block the queue behind it.
local WAITER_STALE = 90000
-- The most waiters one script looks at, so that its cost does not grow with the queue.
local LOOKS = 64
local SLOT_TTL = 20000
-- How long (ms) machine jobs let others that wait for the bench go first.
local MACHINE_YIELDS = 15000

-- A bench has two lanes, each with slots and waiters of its own: that of its name, and one
-- for machine jobs, which nobody waits for. So these never take a signup's place.
local MACHINE = { template = true, standby = true }

local function lane_for(bench, kind)
  if MACHINE[kind] then return bench .. ' machine' end
  return bench
end

local function job_lane(id, bench) return lane_for(bench, get(id, 'kind')) end

-- bench_of returns the bench of a lane, and whether the lane is that of machine jobs.
local function bench_of(lane)
  local bench, machine = string.gsub(lane, ' machine$', '')
  return bench, machine == 1
end

local function purge_slots(lane, now)
  redis.call('ZREMRANGEBYSCORE', P .. 'slots:' .. lane, '-inf', int(now))
end

-- is_cleanup tells whether a job rolls back (or will, since it was canceled or is out of
-- time) or is an operator's on a tenant. Such a job never waits behind those that begin.
local function is_cleanup(id)
  local kind, state, cancel, till = unpack(redis.call('HMGET', job_key(id), 'kind', 'state', 'cancel', 'giveUpAt'))
  return kind ~= 'provision' and not MACHINE[kind] or state == 'rolling_back' or cancel == '1' or (tonumber(till) or 0) < now_ms()
end

-- make_due schedules a waiting job at once. A job that is dispatched, or that a worker
-- holds, is left alone: its worker asks for a slot by itself.
local function make_due(lane, id, now)
  local taken, dispatch, lease, at = unpack(redis.call('HMGET', job_key(id), 'taken', 'dispatch', 'leaseUntil', 'nextAt'))
  if taken ~= dispatch or lease ~= '0' or at == '0' then return end
  redis.call('HSET', job_key(id), 'nextAt', '0')
  redis.call('HSET', P .. 'asking:' .. lane, id, int(now))
  redis.call('ZADD', DUE, 'XX', int(now), id)
end

-- first_waiters returns the ids at the head of a lane's queue: at most `limit`, and
-- only those before `till`, if given. Stale waiters are removed until they ask again.
-- Nil: there were too many stale ones to look at all of them in one script.
local function first_waiters(lane, now, limit, till)
  local waiters, asking, out, gone = P .. 'waiters:' .. lane, P .. 'asking:' .. lane, {}, 0
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

-- machine_slots is the number of machine jobs that a bench does at once: one, and another
-- while no other job is on it. While others wait for the bench none begins, unless the first
-- machine job in the queue has waited for long: a bench that is never idle fills its shelf too.
local function machine_slots(bench)
  if redis.call('ZCARD', P .. 'waiters:' .. bench) > 0 then
    local asked = redis.call('ZRANGE', P .. 'waiters:' .. bench .. ' machine', 0, 0, 'WITHSCORES')[2]
    return asked and tonumber(asked) + MACHINE_YIELDS <= now_ms() and 1 or 0
  end
  return redis.call('ZCOUNT', P .. 'slots:' .. bench, '(' .. int(now_ms()), '+inf') == 0 and 2 or 1
end

-- room is the number of free slots of a lane, of those that the bench's workers announced.
local function room(lane)
  local bench, machine = bench_of(lane)
  local slots = machine and machine_slots(bench) or tonumber(redis.call('HGET', P .. 'bench:' .. bench, 'slots') or '1')
  return slots - redis.call('ZCARD', P .. 'slots:' .. lane)
end

-- wake schedules the waiters that may now get a slot: the first `room` of the queue, and
-- any clean-up job among its first 50.
local function wake(lane, now)
  if redis.call('ZCARD', P .. 'waiters:' .. lane) == 0 then return end
  for _, id in ipairs(first_waiters(lane, now, math.min(LOOKS, math.max(1, room(lane)))) or {}) do make_due(lane, id, now) end
  for _, id in ipairs(redis.call('ZRANGE', P .. 'waiters:' .. lane, 0, 49)) do
    if is_cleanup(id) then make_due(lane, id, now) end
  end
end

-- next_ask is the time at which a waiter asks again by itself: after a minute near the
-- head of the queue, after up to an hour far behind. wake schedules it earlier.
local function next_ask(lane, id, now)
  local rank = redis.call('ZRANK', P .. 'waiters:' .. lane, id) or 0
  local at = now + math.min(3600000, 60000 * (1 + math.floor(rank / 200)))
  local till = num(id, 'giveUpAt')
  if rank >= 200 and till > now then at = math.min(at, till) end
  return at
end

-- mode is what a bench admits: 'open'; 'paused' or 'drained' by an operator; 'tripped'
-- by the breaker, and 'trying', with one slot, once the breaker's time has passed.
local function mode(lane, now)
  local set, till = unpack(redis.call('HMGET', P .. 'bench:' .. bench_of(lane), 'mode', 'until'))
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
  wake(bench .. ' machine', now)
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
  local bench, asked, kind = unpack(redis.call('HMGET', job_key(id), 'bench', 'asked', 'kind'))
  local lane = asked
  if bench and bench ~= '' then lane = lane_for(bench, kind) end
  if not lane then return end
  local removed = redis.call('ZREM', P .. 'slots:' .. lane, id)
  redis.call('ZREM', P .. 'waiters:' .. lane, id)
  redis.call('HDEL', P .. 'asking:' .. lane, id)
  if removed == 1 then wake(lane, now) end
end

-- admits tells whether a lane with `cap` slots has one for this job now: the job is among
-- the first waiters, as many as there are free slots, or it is a clean-up. Machine jobs
-- begin on an open bench only, and `cap` is not theirs.
local function admits(id, lane, cap, now)
  local is, cleanup = mode(lane, now), is_cleanup(id)
  local bench, machine = bench_of(lane)
  if is == 'drained' or not cleanup and (is == 'paused' or is == 'tripped' or machine and is ~= 'open') then return false end
  if machine then cap = machine_slots(bench) end
  if cleanup then cap = cap + 1 elseif is == 'trying' then cap = 1 end
  local free = cap - redis.call('ZCARD', P .. 'slots:' .. lane)
  if cleanup or free <= 0 then return free > 0 end
  local before = first_waiters(lane, now, free, id)
  return before ~= nil and #before < free
end

-- tend schedules the first waiters of a lane that has room. wake alone is not enough: no
-- script runs when a slot expires, and one wake schedules a few waiters only. It costs
-- little while there is no room.
local function tend(lane, now)
  if redis.call('ZCARD', P .. 'waiters:' .. lane) == 0 then return end
  purge_slots(lane, now)
  local is, free = mode(lane, now), room(lane)
  local _, machine = bench_of(lane)
  if is == 'trying' and not machine then -- machine jobs wait until the bench is open
    is, free = 'open', 1 - redis.call('ZCARD', P .. 'slots:' .. lane)
  end
  if free <= 0 or is ~= 'open' then return end
  for _, id in ipairs(first_waiters(lane, now, math.min(LOOKS, free)) or {}) do make_due(lane, id, now) end
end

-- slot takes or renews an admission slot of a lane, in the order of first requests. True:
-- the job has a slot; else it is in the queue.
local function slot(id, lane, cap, now)
  local slots = P .. 'slots:' .. lane
  purge_slots(lane, now)
  if redis.call('ZSCORE', slots, id) then
    redis.call('ZADD', slots, int(now + SLOT_TTL), id)
    return true
  end
  -- The time of its first request stays its place in the queue, so that a half-made
  -- site that gave its slot back for a retry goes before jobs that have not begun.
  local first = num(id, 'askedAt')
  if first == 0 then
    first = now
    redis.call('HSET', job_key(id), 'askedAt', int(now), 'asked', lane)
  end
  if admits(id, lane, cap, now) then
    redis.call('ZADD', slots, int(now + SLOT_TTL), id)
    redis.call('ZREM', P .. 'waiters:' .. lane, id)
    redis.call('HDEL', P .. 'asking:' .. lane, id)
    return true
  end
  redis.call('ZADD', P .. 'waiters:' .. lane, 'NX', int(first), id)
  redis.call('HSET', P .. 'asking:' .. lane, id, int(now))
  return false
end
