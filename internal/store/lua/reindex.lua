-- Puts jobs and tenants into the lists they belong to, for records that a worker or
-- an API of a former version wrote.
-- KEYS[1] the list that the names are from: of all jobs, of a kind's jobs in a state, or of all tenants
-- ARGV 1 'job' or 'tenant', 2 the state that the list is of or '', 3… ids or sites; returns {'ok', how many were elsewhere}
local moved = 0
for i = 3, #ARGV do
  local name = ARGV[i]
  if ARGV[1] == 'job' then
    local kind, state, at = unpack(redis.call('HMGET', job_key(name), 'kind', 'state', 'createdAt'))
    if state and ARGV[2] ~= state then moved = moved + redis.call('ZADD', state_index(kind, state), at, name) end
    if not state or ARGV[2] ~= '' and ARGV[2] ~= state then redis.call('ZREM', KEYS[1], name) end
  else
    local is = redis.call('HGET', P .. 'tenant:' .. name, 'state')
    for _, state in ipairs({ 'making', 'active', 'suspended', 'deleting' }) do
      if state ~= is then redis.call('ZREM', P .. 'tenants:' .. state, name) end
    end
    if is then moved = moved + redis.call('ZADD', P .. 'tenants:' .. is, 0, name) end
  end
end
return { 'ok', int(moved) }
