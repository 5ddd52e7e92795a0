-- Replaces what is known of a bench's templates, and which of them sites are copied from.
-- KEYS[1] the list; ARGV 1 bench, 2 the list as JSON, 3… pairs: key, name of the template
-- returns {'ok'}
local offers = P .. 'offers:' .. ARGV[1]
redis.call('SET', KEYS[1], ARGV[2])
redis.call('DEL', offers)
for i = 3, #ARGV, 2 do redis.call('HSET', offers, ARGV[i], ARGV[i + 1]) end
return { 'ok' }
