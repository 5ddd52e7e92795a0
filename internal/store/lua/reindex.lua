-- Puts jobs and tenants into the indexes of their state. Workers and APIs of a former
-- version write records without them.
-- KEYS[1] the index that the names are from: all jobs, the jobs of a kind and state, or all tenants
-- ARGV 1 'job' or 'tenant', 2 the state of that index or '', 3… ids or sites; returns {'ok', how many were added}
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
