-- Writes the row of a tenant from its marker on the bench, after the registry was lost.
-- KEYS[1] tenant; ARGV 1 site, 2 state, 3 plan, 4 email, 5 bench, 6 database, 7 made by, 8 time of its creation in ms, or '0' for now,
--      9 gen of the marker's state or ''
-- returns {'ok'} | {'taken'} if there is a row: the registry is newer than the marker
local site, now = ARGV[1], now_ms()
if redis.call('EXISTS', KEYS[1]) == 1 then return { 'taken' } end
redis.call('HSET', KEYS[1], 'site', site, 'plan', ARGV[3], 'email', ARGV[4], 'bench', ARGV[5],
  'db', ARGV[6], 'madeBy', ARGV[7], 'job', '', 'createdAt', ARGV[8] == '0' and int(now) or ARGV[8])
move_tenant(site, ARGV[2])
if ARGV[9] ~= '' then redis.call('HSET', KEYS[1], 'stateGen', ARGV[9]) end
redis.call('ZADD', P .. 'tenants', 0, site)
return { 'ok' }
