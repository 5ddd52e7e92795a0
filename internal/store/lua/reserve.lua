-- Takes an admission slot, chooses the road, and writes bench, database and road to the job
-- and to the tenant's row, before anything is made on the bench. Asked again it answers with
-- the road that it chose.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 bench, 4 database, 5 slots,
--      6… keys of templates, best first; none: the road is new-site
-- returns {'ok', road, template or '', standby or '', database} | {'full'} | {'shut'} | {'stale'}
local id, now = ARGV[1], now_ms()
local mine, site, road, template, standby, db = owned(id, ARGV[2], 'site', 'road', 'template', 'standby', 'db')
if not mine then return { 'stale' } end
if not slot(id, job_lane(id, ARGV[3]), tonumber(ARGV[5]), now) then
  return { mode(ARGV[3], now) == 'open' and 'full' or 'shut' }
end
if not standby then standby, db = '', ARGV[4] end
if not road and #ARGV > 5 then
  road, template, standby, db = choose(id, ARGV[3], db, { unpack(ARGV, 6) }, now)
end
set_way(id, site, road or '', template or '', standby, db, ARGV[3])
return { 'ok', road or '', template or '', standby, db }
