-- Returns what is due, each entry to one caller: its next time is written before it is
-- returned, so a caller that dies delays the entry by seconds. Expired leases come first,
-- since the due index may be long; then the first waiters of each lane of a bench with
-- free slots are scheduled.
-- KEYS[1] due index; ARGV 1 limit, 2 '1' to rescue expired leases
-- returns a list of {id, dispatch, kind, 'again' | 'rescue' | 'go'}, and
-- {site, ms of the purge date, '', 'purge'} for a tenant whose purge date has come
local now, out = now_ms(), {}

local function purge(site)
  local row = redis.call('HMGET', P .. 'tenant:' .. site, 'state', 'purgeAt')
  if row[1] ~= 'suspended' or not row[2] then -- restored or in removal
    redis.call('ZREM', KEYS[1], 'tenant:' .. site)
    return
  end
  redis.call('ZADD', KEYS[1], 'XX', int(now + 60000), 'tenant:' .. site)
  out[#out + 1] = { site, row[2], '', 'purge' }
end

local function look(id)
  local key, state = job_key(id), get(id, 'state')
  local lease, next_at = num(id, 'leaseUntil'), num(id, 'nextAt')
  local why, next_look = nil, now + 5000 + (tonumber(string.sub(id, 1, 3), 16) or 0) % 1000
  if state == '' or over(state) or state == 'rollback_failed' then
    redis.call('ZREM', KEYS[1], id)
  elseif num(id, 'taken') < num(id, 'dispatch') then
    local looks = redis.call('HINCRBY', key, 'looks', 1)
    next_look = now + math.min(60000, 5000 * 2 ^ (looks - 1))
    why = 'again'
  elseif lease > now then
    next_look = lease
  elseif lease > 0 then
    if ARGV[2] == '1' then
      redis.call('HINCRBY', key, 'rescues', 1)
      redis.call('ZREM', LEASES, id)
      why = 'rescue'
    else
      next_look = now + 250
    end
  elseif next_at > now and get(id, 'cancel') ~= '1' then
    next_look = next_at
  else
    why = 'go'
  end
  if why == 'rescue' or why == 'go' then
    redis.call('HINCRBY', key, 'dispatch', 1)
    redis.call('HSET', key, 'looks', '0')
  end
  redis.call('ZADD', KEYS[1], 'XX', int(next_look), id)
  if why then out[#out + 1] = { id, get(id, 'dispatch'), get(id, 'kind'), why } end
end

-- Workers of a former version do not write this index, so an entry may be out of date.
local function ran_out(id)
  local lease = num(id, 'leaseUntil')
  if lease == 0 or num(id, 'taken') < num(id, 'dispatch') then
    redis.call('ZREM', LEASES, id)
  elseif lease > now then
    redis.call('ZADD', LEASES, int(lease), id)
  else
    look(id)
  end
end

if ARGV[2] == '1' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', int(now), 'LIMIT', 0, tonumber(ARGV[1]))) do ran_out(id) end
end
for _, bench in ipairs(redis.call('SMEMBERS', P .. 'benches')) do
  tend(bench, now)
  tend(bench .. ' machine', now)
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, tonumber(ARGV[1]))) do
  local site = string.match(member, '^tenant:(.+)$')
  if site then purge(site) else look(member) end
end
return out
