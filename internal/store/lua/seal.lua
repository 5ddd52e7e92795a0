-- Keeps the sealed credentials before they are set on the site; a second try
-- gets the first one's, so that it can set the same pair again. They live as long
-- as the job does, parked or not: its end removes them, or sets a time to live.
-- KEYS[1] job record; ARGV 1 id, 2 gen, 3 sealed credentials
-- returns {'ok', the sealed text that counts} | {'stale'}
local id = ARGV[1]
if not owned(id, ARGV[2]) then return { 'stale' } end
local key = P .. 'credentials:' .. id
redis.call('SET', key, ARGV[3], 'NX')
return { 'ok', redis.call('GET', key) }
