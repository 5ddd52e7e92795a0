-- Chooses a longer road to the site of a job than the one that was chosen: a copy of a
-- template, or new-site. A standby that the job had taken is not claimed any more.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 database of the longer road, 4… keys of templates, best first
-- returns {'ok', road, template or '', '', database} | {'stale'}
local id, now = ARGV[1], now_ms()
local mine, site, bench, standby = owned(id, ARGV[2], 'site', 'bench', 'standby')
if not mine then return { 'stale' } end
if standby then
  local its, key = unpack(redis.call('HMGET', standby_key(standby), 'bench', 'key'))
  if its then redis.call('HINCRBY', pool_key(its, key), 'detours', 1) end
  leave_standby(standby, id, 'reaping', now)
end
local road, template = offered(bench, { unpack(ARGV, 4) })
set_way(id, site, road, template, '', ARGV[3], bench)
return { 'ok', road, template, '', ARGV[3] }
