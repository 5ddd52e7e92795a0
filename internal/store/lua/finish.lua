-- Ends a job, or parks it as rollback_failed. For a provision that succeeds this is the
-- commit point: it is refused if a cancel was asked; else this one script makes the
-- tenant active and the credentials readable.
-- KEYS[1] job record
-- ARGV 1 id, 2 gen, 3 steps, 4 state, 5 error or '', 6 retention ms, 7 step that ended or '',
--      8… events, the last one that of the end
-- returns {'ok'} | {'stale'} | {'canceled'}
local id, now = ARGV[1], now_ms()
local mine, cancel, bench = owned(id, ARGV[2], 'cancel', 'bench')
if not mine then return { 'stale' } end
if ARGV[4] == 'succeeded' and cancel == '1' then return { 'canceled' } end
redis.call('HSET', KEYS[1], 'steps', ARGV[3])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[5]) end
if ARGV[4] == 'succeeded' and ARGV[7] ~= '' then breaker_success(bench, ARGV[7], now) end
if #ARGV > 8 then emit(id, now, unpack(ARGV, 8, #ARGV - 1)) end
end_job(id, ARGV[4], now, ARGV[6], ARGV[#ARGV])
return { 'ok' }
