-- Stores the sealed credentials before they are set on the site. A second attempt gets
-- those of the first, and sets the same pair again. They are kept until the job
-- ends; its end deletes them or sets a time to live.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 sealed credentials
-- returns {'ok', the sealed text that is stored} | {'stale'}
local id = ARGV[1]
if not owned(id, ARGV[2]) then return { 'stale' } end
local key = P .. 'credentials:' .. id
redis.call('SET', key, ARGV[3], 'NX')
return { 'ok', redis.call('GET', key) }
