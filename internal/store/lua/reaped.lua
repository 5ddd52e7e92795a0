-- Forgets a standby that was taken away and is dropped.
-- KEYS[1] the standby's row; ARGV 1 id of its job; returns {'ok'}
if redis.call('HGET', KEYS[1], 'state') == 'reaping' then set_standby(ARGV[1], 'gone', now_ms()) end
return { 'ok' }
