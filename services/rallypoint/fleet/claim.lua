-- Keep a request's claim, or take a slot on the first candidate that has room.
-- KEYS: claims, expiry, used, built, fenced, claim ttl, unmet
-- ARGV: room, now ms, ttl ms unless the set has its own, epoch, claim to replace or '', 1 to take the epoch as it is, state C
--       or M, the least ttl ms of a set's own, then pairs of place and capacity, best first
-- returns {'kept', claim} | {'new', claim} | {'full'}, or {'unbuilt'} before adopt.lua has run:
-- no claim is made while the ones that Redis lost are being taken in
if redis.call('EXISTS', KEYS[4]) == 0 then
  return {'unbuilt'}
end
local room, now, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if ARGV[7] == 'C' then
  ttl = claim_ttl(KEYS[6], ttl, ARGV[8])
end
local epoch = tonumber(ARGV[4])
local found = redis.call('HGET', KEYS[1], room)
local state, place, old
if found then
  state, place, old = string.match(found, '^(%u)|([^|]+|[^|]+)|(%d+)$')
  local over = state == 'C' and tonumber(redis.call('ZSCORE', KEYS[2], room) or '0') <= now
  if found ~= ARGV[5] and not over then
    -- That a room moves is not for who asks for it to put off: the next sweep takes the move up again.
    if state == 'C' or (state == 'M' and ARGV[7] == 'M') then
      redis.call('ZADD', KEYS[2], now + ttl, room)
    end
    return {'kept', found}
  end
  if ARGV[6] ~= '1' then
    epoch = math.max(epoch, tonumber(old) + 1)
  end
  if redis.call('HINCRBY', KEYS[3], place, -1) <= 0 then
    redis.call('HDEL', KEYS[3], place)
  end
  redis.call('HDEL', KEYS[1], room)
  redis.call('ZREM', KEYS[2], room)
end
for i = 9, #ARGV, 2 do
  local used = tonumber(redis.call('HGET', KEYS[3], ARGV[i]) or '0')
  if used < tonumber(ARGV[i + 1]) and redis.call('HEXISTS', KEYS[5], ARGV[i]) == 0 then
    local claim = string.format('%s|%s|%d', ARGV[7], ARGV[i], epoch)
    redis.call('HSET', KEYS[1], room, claim)
    redis.call('HINCRBY', KEYS[3], ARGV[i], 1)
    redis.call('ZADD', KEYS[2], now + ttl, room)
    redis.call('ZREM', KEYS[7], room)
    return {'new', claim}
  end
end
if state == 'M' and ARGV[7] == 'M' then
  -- The room waits for a place. Should who moves it die, this claim tells the next sweep of it.
  redis.call('HSET', KEYS[1], room, found)
  redis.call('HINCRBY', KEYS[3], place, 1)
  redis.call('ZADD', KEYS[2], now + ttl, room)
end
return {'full'}
