-- Give a slot back. Again, or for a claim that has moved on, it does nothing.
-- KEYS: claims, expiry, used   ARGV: room, highest epoch (0: any), place ('': any)
-- returns 1 when a slot was given back
local found = redis.call('HGET', KEYS[1], ARGV[1])
if not found then
  return 0
end
local place, epoch = string.match(found, '^%u|([^|]+|[^|]+)|(%d+)$')
local limit = tonumber(ARGV[2])
if (limit > 0 and tonumber(epoch) > limit) or (ARGV[3] ~= '' and ARGV[3] ~= place) then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HINCRBY', KEYS[3], place, -1) <= 0 then
  redis.call('HDEL', KEYS[3], place)
end
return 1
