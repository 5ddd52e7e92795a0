-- Tries what the product does, with the rights of the calling user: it checks the right
-- to every command that the scripts, the store and asynq use, then writes a key and a
-- stream and publishes a message. It returns what failed, and raises no error.
-- KEYS[1] a key of its own; ARGV 1 the channel of its prefix
-- returns a list of {command, '' if the rights are missing, else Redis' error}
local key, channel, out = KEYS[1], ARGV[1], {}
local plain = 'DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HGETALL HINCRBY HMGET HSET HVALS INCR LLEN LPUSH LRANGE LREM MGET PEXPIRE PTTL '
  .. 'RPUSH SADD SCARD SET SETEX SETNX SISMEMBER SMEMBERS SREM XADD XDEL XRANGE ZADD ZCARD ZCOUNT ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK '
  .. 'ZREM ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYSCORE ZSCAN ZSCORE'

local function allowed(...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(...) then out[#out + 1] = { (...), '' } end
end

for command in string.gmatch(plain, '%S+') do allowed(command, key) end
allowed('COPY', key, key)
allowed('RENAME', key, key)
allowed('RPOPLPUSH', key, key)
allowed('EVAL', 'return 1', '1', key)
allowed('EVALSHA', string.rep('0', 40), '1', key)
allowed('PUBLISH', channel, '')
allowed('SUBSCRIBE', channel)
for _, command in ipairs({ 'TIME', 'PING', 'MULTI', 'EXEC' }) do allowed(command) end
if #out > 0 then return out end

local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then out[#out + 1] = { (...), answer.err } end
end
try('SET', key, '1') -- only the first write of a script is refused for lack of memory
try('DEL', key)
try('XADD', key, '1-0', 'at', '0')
try('PEXPIRE', key, 60000)
try('PUBLISH', channel, '')
return out
