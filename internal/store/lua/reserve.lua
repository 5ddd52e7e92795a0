-- Takes an admission slot, chooses the road, and writes bench, database and road to the job
-- and to the tenant's row, before anything is made on the bench.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 bench, 4 database, 5 slots,
--      6… keys of templates, best first; none: the road is new-site
-- returns {'ok', road, template or ''} | {'full'} | {'shut'} | {'stale'}
local id, now = ARGV[1], now_ms()
local mine, site, road, template = owned(id, ARGV[2], 'site', 'road', 'template')
if not mine then return { 'stale' } end
if not slot(id, job_lane(id, ARGV[3]), tonumber(ARGV[5]), now) then
  return { mode(ARGV[3], now) == 'open' and 'full' or 'shut' }
end
if not road and #ARGV > 5 then
  road, template = 'new-site', ''
  for i = 6, #ARGV do
    local offered = redis.call('HGET', P .. 'offers:' .. ARGV[3], ARGV[i])
    if offered then
      road, template = 'clone', offered
      break
    end
  end
end
road, template = road or '', template or ''
local fields = { 'bench', ARGV[3], 'db', ARGV[4] }
if road ~= '' then fields = { 'bench', ARGV[3], 'db', ARGV[4], 'road', road, 'template', template } end
redis.call('HSET', KEYS[1], unpack(fields))
local tenant = P .. 'tenant:' .. site
if redis.call('HGET', tenant, 'job') == id then redis.call('HSET', tenant, unpack(fields)) end
return { 'ok', road, template }
