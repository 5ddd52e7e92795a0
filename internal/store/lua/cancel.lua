-- Requests the cancel of a job. A job that was never taken ends at once, a waiting job
-- becomes due, and a running job learns of it at its next renewal or checkpoint.
-- KEYS[1] job record; ARGV 1 id, 2 retention ms, 3 event, 4 event and 5 error of the end,
--      6 event and 7 error of the end of a parked job, 8 error of the end of a job that is no signup
-- returns {'ok', fields} | {'absent'} | {'over'} | {'parked'} | {'running'}
local id, now = ARGV[1], now_ms()
local state = get(id, 'state')
if state == '' then return { 'absent' } end
if state == 'canceled' then return { 'ok', redis.call('HGETALL', KEYS[1]) } end -- sent again: the answer may have been lost
if over(state) then return { 'over' } end
if state == 'rollback_failed' then
  if get(id, 'kind') ~= 'rotate_key' then return { 'parked' } end
  redis.call('HSET', KEYS[1], 'cancel', '1', 'error', ARGV[7])
  end_job(id, 'canceled', now, ARGV[2], ARGV[6])
  return { 'ok', redis.call('HGETALL', KEYS[1]) }
end
local one_way = get(id, 'kind') == 'teardown' or get(id, 'kind') == 'rotate_key'
if one_way and (state ~= 'queued' or get(id, 'cancel') == '1') then return { 'running' } end
if state == 'queued' and get(id, 'taken') == '0' then
  redis.call('HSET', KEYS[1], 'cancel', '1', 'error', get(id, 'kind') == 'provision' and ARGV[5] or ARGV[8])
  end_job(id, 'canceled', now, ARGV[2], ARGV[4])
elseif state ~= 'rolling_back' and get(id, 'cancel') ~= '1' then
  redis.call('HSET', KEYS[1], 'cancel', '1')
  if num(id, 'leaseUntil') == 0 then redis.call('ZADD', DUE, 'XX', int(now), id) end
  emit(id, now, ARGV[3])
end
return { 'ok', redis.call('HGETALL', KEYS[1]) }
