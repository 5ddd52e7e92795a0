-- Resumes a parked job: a provision goes on rolling back, a teardown goes on removing.
-- KEYS[1] job record; ARGV 1 id, 2 rev as read, 3 steps, 4 state, 5 give up after ms, 6 error or '', 7 event
-- returns {'ok', fields} | {'other'} when the record is no longer as read
local id, now = ARGV[1], now_ms()
local state, rev = get(id, 'state'), num(id, 'rev')
-- Sent again, since the answer was lost: only a resume gives a parked job this state.
if state == ARGV[4] and rev == tonumber(ARGV[2]) + 1 then return { 'ok', redis.call('HGETALL', KEYS[1]) } end
if state ~= 'rollback_failed' or rev ~= tonumber(ARGV[2]) then return { 'other' } end
move(id, ARGV[4])
redis.call('HSET', KEYS[1], 'steps', ARGV[3], 'rescues', '0', 'looks', '0',
  'leaseUntil', '0', 'nextAt', '0', 'giveUpAt', int(now + tonumber(ARGV[5])),
  'gen', int(mint(0))) -- the token of the run that parked it is stale
redis.call('HDEL', KEYS[1], 'former')
if ARGV[6] == '' then redis.call('HDEL', KEYS[1], 'error') else redis.call('HSET', KEYS[1], 'error', ARGV[6]) end
redis.call('ZADD', DUE, int(now), id)
emit(id, now, ARGV[7])
return { 'ok', redis.call('HGETALL', KEYS[1]) }
