-- Takes an admission slot and writes bench and database to the job and to the tenant's
-- row, before anything is made on the bench.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 bench, 4 database, 5 slots
-- returns {'ok'} | {'full'} | {'shut'} | {'stale'}
local id, now = ARGV[1], now_ms()
local mine, site = owned(id, ARGV[2], 'site')
if not mine then return { 'stale' } end
if not slot(id, ARGV[3], tonumber(ARGV[5]), now) then
  return { mode(ARGV[3], now) == 'open' and 'full' or 'shut' }
end
redis.call('HSET', KEYS[1], 'bench', ARGV[3], 'db', ARGV[4])
local tenant = P .. 'tenant:' .. site
if redis.call('HGET', tenant, 'job') == id then redis.call('HSET', tenant, 'bench', ARGV[3], 'db', ARGV[4]) end
return { 'ok' }
