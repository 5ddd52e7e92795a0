-- Sets a bench's mode at an operator's request. Mode open schedules its waiters.
-- KEYS[1] bench; ARGV 1 bench, 2 mode, 3 who; returns {'ok'} | {'absent'}
if redis.call('SISMEMBER', P .. 'benches', ARGV[1]) == 0 then return { 'absent' } end
if ARGV[2] == 'open' then
  reopen(ARGV[1], now_ms())
else
  redis.call('HSET', KEYS[1], 'mode', ARGV[2], 'by', ARGV[3])
  redis.call('HDEL', KEYS[1], 'until')
end
return { 'ok' }
