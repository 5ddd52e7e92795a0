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

local function over(state)
  return state == 'succeeded' or state == 'failed' or state == 'canceled'
end

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
