-- A request belongs to one set for ever, and its epochs only grow.
-- KEYS: bind   ARGV: set, epoch given, ttl in seconds   returns {set, highest epoch}
local set = redis.call('HGET', KEYS[1], 'set')
if not set then
  set = ARGV[1]
  redis.call('HSET', KEYS[1], 'set', set)
end
local epoch = math.max(tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0'), tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'epoch', string.format('%d', epoch))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {set, epoch}
