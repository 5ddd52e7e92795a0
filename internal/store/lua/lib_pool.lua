-- Prepended to every script, after lib_slots.lua: the roads to a site, and the shelves, which
-- hold standbys that wait for a signup. A shelf belongs to a bench and to a key of templates.
-- standby:<id> has the state of the standby that the job <id> makes; no row: it is gone.
--   making → shelved → popped → gone, or from each of them → reaping → gone
-- A standby that is reaping may not be claimed any more, and is dropped by a worker.

local function standby_key(id) return P .. 'standby:' .. id end

local function shelf_key(bench, key) return P .. 'shelf:' .. bench .. ' ' .. key end

local function pool_key(bench, key) return P .. 'pool:' .. bench .. ' ' .. key end

local function alive(id)
  local state = get(id, 'state')
  return state ~= '' and not over(state)
end

-- set_standby gives a standby a state.
local function set_standby(id, state, now)
  local row = standby_key(id)
  local bench, key = unpack(redis.call('HMGET', row, 'bench', 'key'))
  if not bench then return end
  local shelf, pool = shelf_key(bench, key), pool_key(bench, key)
  redis.call('ZREM', shelf, id)
  if state == 'gone' then
    redis.call('DEL', row)
    redis.call('SREM', P .. 'standbys:' .. bench, id)
  else
    redis.call('HSET', row, 'state', state, 'at', int(now))
  end
  if state == 'shelved' then
    redis.call('ZADD', shelf, int(now), id)
    redis.call('HDEL', pool, 'emptyAt')
  elseif redis.call('EXISTS', shelf) == 0 and not redis.call('HGET', pool, 'emptyAt') then
    redis.call('HSET', pool, 'emptyAt', int(now))
  end
end

-- add_standby writes the row of a new standby.
local function add_standby(id, bench, key, template, db, state, now)
  redis.call('HSET', standby_key(id), 'bench', bench, 'key', key, 'template', template, 'db', db)
  redis.call('SADD', P .. 'standbys:' .. bench, id)
  redis.call('SADD', P .. 'pools:' .. bench, key)
  set_standby(id, state, now)
end

-- stock is the number of standbys of a shelf that a signup gets, or will get.
local function stock(bench, key)
  local n = redis.call('ZCARD', shelf_key(bench, key))
  for _, id in ipairs(redis.call('SMEMBERS', P .. 'standbys:' .. bench)) do
    local its, state = unpack(redis.call('HMGET', standby_key(id), 'key', 'state'))
    if its == key and state == 'making' then n = n + 1 end
    if not its then redis.call('SREM', P .. 'standbys:' .. bench, id) end -- the row was lost
  end
  return n
end

-- pop takes the oldest standby from a shelf for a job.
local function pop(bench, key, job, now)
  local shelf = shelf_key(bench, key)
  for _, id in ipairs(redis.call('ZRANGE', shelf, 0, 9)) do
    local state, template, db = unpack(redis.call('HMGET', standby_key(id), 'state', 'template', 'db'))
    if state == 'shelved' then
      set_standby(id, 'popped', now)
      redis.call('HSET', standby_key(id), 'job', job)
      return id, template, db
    end
    redis.call('ZREM', shelf, id)
  end
end

-- arrive counts a signup that a shelf was asked for: in numbers that decay by the hour and by
-- five minutes, from which tasks.Size computes how many standbys are held, and by what it got.
-- It counts nothing if no worker keeps the shelf.
local function arrive(bench, key, got, now)
  local pool = pool_key(bench, key)
  local target, at, hour, minutes = unpack(redis.call('HMGET', pool, 'target', 'at', 'hour', 'minutes'))
  if not target then return end
  local passed = math.max(0, now - (tonumber(at) or now))
  redis.call('HSET', pool, 'at', int(now), 'hour', string.format('%.4f', (tonumber(hour) or 0) * math.exp(-passed / 3600000) + 1),
    'minutes', string.format('%.4f', (tonumber(minutes) or 0) * math.exp(-passed / 300000) + 1))
  redis.call('HINCRBY', pool, got, 1)
end

-- offered returns the road to a site without a standby, and the template to copy or ''.
local function offered(bench, keys)
  for _, key in ipairs(keys) do
    local template = redis.call('HGET', P .. 'offers:' .. bench, key)
    if template then return 'clone', template end
  end
  return 'new-site', ''
end

-- choose returns the road to a site, the template or '', the standby or '', and the site's
-- database. A copy of a better template is preferred to a standby of another one. Only a job
-- with the step company gets a standby: a worker of a version that knows none leaves that job
-- alone. An operator may have asked for a road: then no faster one is taken.
local function choose(id, bench, db, keys, now)
  local kind, steps, spec = unpack(redis.call('HMGET', job_key(id), 'kind', 'steps', 'spec'))
  local asked = cjson.decode(spec).road
  if asked == 'new-site' then return 'new-site', '', '', db end
  local shelves = kind == 'provision' and asked ~= 'clone' and string.find(steps, '"company"', 1, true)
  for _, key in ipairs(keys) do
    if shelves then
      local standby, template, its = pop(bench, key, id, now)
      arrive(bench, key, standby and 'hits' or 'misses', now)
      if standby then return 'standby', template, standby, its end
    end
    local road, template = offered(bench, { key })
    if road == 'clone' then return road, template, '', db end
  end
  return 'new-site', '', '', db
end

-- set_way writes bench, database and road to the job and to its tenant's row. An empty road:
-- a job that has none.
local function set_way(id, site, road, template, standby, db, bench)
  local fields = { 'bench', bench, 'db', db }
  if road ~= '' then fields = { 'bench', bench, 'db', db, 'road', road, 'template', template } end
  redis.call('HSET', job_key(id), unpack(fields))
  if standby ~= '' then redis.call('HSET', job_key(id), 'standby', standby) else redis.call('HDEL', job_key(id), 'standby') end
  local tenant = P .. 'tenant:' .. site
  if redis.call('HGET', tenant, 'job') == id then redis.call('HSET', tenant, unpack(fields)) end
end

-- leave_standby gives a state to a standby that a job had popped. If its row was lost and
-- written anew, another job may have popped it too; then its state is that job's.
local function leave_standby(standby, id, state, now)
  local by = redis.call('HGET', standby_key(standby), 'job')
  if not by or by == id then set_standby(standby, state, now) end
end

-- build_time is how long the steps after reserve took, in ms. Nil: one of them was started
-- again, so its time has a wait in it.
local function build_time(steps)
  local took = 0
  for _, step in ipairs(cjson.decode(steps)) do -- name, state, attempts, starts, start, duration
    if step[1] ~= 'reserve' then
      if step[4] ~= 1 or (step[6] or -1) < 0 then return nil end
      took = took + step[6]
    end
  end
  if took > 0 then return took end
end

-- settle_standby is the end of a job for the standby that it has made or claimed. One that a
-- job gave back is not shelved again: it may have been changed. A parked job keeps what it
-- claimed. What a parked job has made is no part of the shelf any more.
local function settle_standby(id, state, now)
  local kind, claimed, steps = unpack(redis.call('HMGET', job_key(id), 'kind', 'standby', 'steps'))
  if claimed and state ~= 'rollback_failed' then
    leave_standby(claimed, id, state == 'succeeded' and 'gone' or 'reaping', now)
  end
  if kind ~= 'standby' then return end
  local its, bench, key = unpack(redis.call('HMGET', standby_key(id), 'state', 'bench', 'key'))
  if its ~= 'making' then return end
  local pool = pool_key(bench, key)
  if state == 'succeeded' then
    set_standby(id, 'shelved', now)
    local took, former = build_time(steps), tonumber(redis.call('HGET', pool, 'build'))
    if took then redis.call('HSET', pool, 'build', int(former and 0.7 * former + 0.3 * took or took)) end
    redis.call('HDEL', pool, 'failures')
  else
    set_standby(id, 'gone', now)
    if state ~= 'canceled' then
      redis.call('HINCRBY', pool, 'failures', 1)
      redis.call('HSET', pool, 'failedAt', int(now))
    end
  end
end
