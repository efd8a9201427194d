-- A room has moved to another node: its claim follows, and the slot kept there meanwhile is its own.
-- KEYS: claims, expiry, used   ARGV: room, the field its place at the target was kept under, place, epoch
-- returns 1 when the claim changed; 0 when it had, or when the room has ended. Again does nothing.
local room, kept, place, epoch = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local function give_back(slot)
  if redis.call('HINCRBY', KEYS[3], slot, -1) <= 0 then
    redis.call('HDEL', KEYS[3], slot)
  end
end
local held = false
local found = redis.call('HGET', KEYS[1], kept)
if found and string.match(found, '^%u|([^|]+|[^|]+)|') == place then
  redis.call('HDEL', KEYS[1], kept)
  redis.call('ZREM', KEYS[2], kept)
  held = true
end
local claim = redis.call('HGET', KEYS[1], room)
local old_place, old_epoch
if claim then
  old_place, old_epoch = string.match(claim, '^%u|([^|]+|[^|]+)|(%d+)$')
end
if not claim or tonumber(old_epoch) >= epoch then
  if held then
    give_back(place)
  end
  return 0
end
give_back(old_place)
if not held then
  redis.call('HINCRBY', KEYS[3], place, 1)
end
redis.call('HSET', KEYS[1], room, string.format('R|%s|%d', place, epoch))
redis.call('ZREM', KEYS[2], room)
return 1
