-- Records why the worker that got a job's task left it alone. The job and /readyz show
-- the reason until a worker takes the job or it ends.
-- KEYS[1] job record; ARGV 1 id, 2 dispatch, 3 why, 4 event, 5 the most jobs that are recorded
-- returns {'ok'} | {'stale'} when the dispatch is not the job's, or was taken
local id, left = ARGV[1], P .. 'left'
local state = get(id, 'state')
if state == '' or over(state) or state == 'rollback_failed' or get(id, 'dispatch') ~= ARGV[2] or num(id, 'taken') >= tonumber(ARGV[2]) then
  return { 'stale' }
end
local noted = redis.call('HGET', left, id)
if noted or #redis.call('HGETALL', left) >= 2 * tonumber(ARGV[5]) then return { 'ok' } end -- the first reason stays
redis.call('HSET', left, id, ARGV[3])
redis.call('HSET', KEYS[1], 'waitingFor', 'operator', 'waitNote', ARGV[3])
emit(id, now_ms(), ARGV[4])
return { 'ok' }
