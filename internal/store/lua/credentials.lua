-- Returns the sealed credentials to the first pick-up only. That pick-up may repeat its
-- request for ten minutes; every other one is refused.
-- KEYS[1] job record; ARGV 1 id, 2 hash that names the pick-up
-- returns {'ok', sealed} | {'absent'} | {'early'} | {'gone'}
local id = ARGV[1]
local state = get(id, 'state')
if state == '' then return { 'absent' } end
if state ~= 'succeeded' then
  if over(state) or state == 'rollback_failed' then return { 'gone' } end
  return { 'early' }
end
local key, bound = P .. 'credentials:' .. id, P .. 'pickup:' .. id
local sealed, by = redis.call('GET', key), redis.call('GET', bound)
if not sealed then return { 'gone' } end
if not by then
  redis.call('SET', bound, ARGV[2], 'PX', 600000)
  redis.call('PEXPIRE', key, 600000)
elseif by ~= ARGV[2] then
  return { 'gone' }
end
return { 'ok', sealed }
