-- Frees a tenant's row whose job is over or has no record. A row that was never active is
-- deleted; a row in removal can be removed again.
-- KEYS[1] tenant; ARGV 1 site, 2 made by
-- returns {'ok', state of the row, '' if it is gone} | {'absent'}
-- | {'busy'} if a live job holds the tenant, or another job made it
local row = redis.call('HMGET', KEYS[1], 'state', 'madeBy', 'job')
if not row[1] then return { 'absent' } end
for _, id in ipairs({ row[2] or '', row[3] or '' }) do
  local state = get(id, 'state')
  if state ~= '' and not over(state) then return { 'busy' } end
end
if row[2] ~= ARGV[2] then return { 'busy' } end
if row[1] == 'making' then
  forget_tenant(row[2], ARGV[1])
  return { 'ok', '' }
end
local state = row[1] == 'deleting' and 'suspended' or row[1]
move_tenant(ARGV[1], state)
redis.call('HSET', KEYS[1], 'job', '')
if row[1] == 'deleting' then redis.call('HDEL', KEYS[1], 'purgeAt') end -- its timer may be gone, so the date would have no effect
return { 'ok', state }
