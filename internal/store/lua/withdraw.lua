-- Removes a template from those that sites of a bench are copied from.
-- KEYS[1] the offers of the bench; ARGV 1 name of the template
-- returns {'ok'}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i + 1] == ARGV[1] then redis.call('HDEL', KEYS[1], all[i]) end
end
return { 'ok' }
