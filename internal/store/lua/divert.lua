-- Records that the site of a job is made by another road than the one that was chosen.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 road
-- returns {'ok'} | {'stale'}
local id = ARGV[1]
local mine, site = owned(id, ARGV[2], 'site')
if not mine then return { 'stale' } end
redis.call('HSET', KEYS[1], 'road', ARGV[3], 'template', '')
local tenant = P .. 'tenant:' .. site
if redis.call('HGET', tenant, 'job') == id then redis.call('HSET', tenant, 'road', ARGV[3], 'template', '') end
return { 'ok' }
