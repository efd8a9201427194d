-- Keep the claims of several requests, or take slots for them where it is fullest.
-- KEYS: claims, expiry, used, built, fenced, unmet, claim ttl
-- ARGV: now ms, ttl ms unless the set has its own, P (fill the fullest) or D (spread over the emptiest), number of candidates,
--       the least ttl ms of a set's own, pairs of place and capacity, best first where equal, then pairs of room and epoch
-- returns {'unbuilt'}, or {'built', for each room one of 'K' .. claim kept, 'N' .. new claim and ''
--         when no candidate has room, then for each candidate the slots used, -1 behind a fence}
if redis.call('EXISTS', KEYS[4]) == 0 then
  return {'unbuilt'}
end
local now, spread = tonumber(ARGV[1]), ARGV[3] == 'D'
local ttl = claim_ttl(KEYS[7], ARGV[2], ARGV[5])
local count = tonumber(ARGV[4])
local places, capacity, used = {}, {}, {}
for i = 1, count do
  places[i], capacity[i] = ARGV[4 + 2 * i], tonumber(ARGV[5 + 2 * i])
end
if count > 0 then
  local found = redis.call('HMGET', KEYS[3], unpack(places))
  local fenced = {}
  if redis.call('EXISTS', KEYS[5]) == 1 then
    fenced = redis.call('HMGET', KEYS[5], unpack(places))
  end
  for i = 1, count do
    used[i] = fenced[i] and -1 or tonumber(found[i] or '0')
  end
end

local at
local function fits(i)
  return used[i] >= 0 and used[i] < capacity[i]
end
local function best()
  if at and not spread and fits(at) then
    return at -- the fullest one stays the fullest until it is full
  end
  at = nil
  for i = 1, count do
    if fits(i) then
      if not at then
        at = i
      elseif spread then
        if capacity[i] - used[i] > capacity[at] - used[at] then at = i end
      elseif capacity[i] - used[i] < capacity[at] - used[at] then
        at = i
      end
    end
  end
  return at
end
local index = {}
for i = 1, count do
  index[places[i]] = i
end

local missed = redis.call('EXISTS', KEYS[6]) == 1
local answers = {'built'}
for i = 6 + 2 * count, #ARGV, 2 do
  local room, epoch = ARGV[i], tonumber(ARGV[i + 1])
  local found = redis.call('HGET', KEYS[1], room)
  local answer
  if found then
    local state, place, old = string.match(found, '^(%u)|([^|]+|[^|]+)|(%d+)$')
    if state == 'C' and tonumber(redis.call('ZSCORE', KEYS[2], room) or '0') <= now then
      epoch = math.max(epoch, tonumber(old) + 1)
      if redis.call('HINCRBY', KEYS[3], place, -1) <= 0 then
        redis.call('HDEL', KEYS[3], place)
      end
      redis.call('HDEL', KEYS[1], room)
      redis.call('ZREM', KEYS[2], room)
      local freed = index[place]
      if freed and used[freed] > 0 then
        used[freed] = used[freed] - 1
      end
      at = nil
    else
      if state == 'C' then -- what moves is left to who moves it, and to its time
        redis.call('ZADD', KEYS[2], now + ttl, room)
      end
      answer = 'K' .. found
    end
  end
  if not answer then
    local chosen = best()
    if chosen then
      used[chosen] = used[chosen] + 1
      local claim = string.format('C|%s|%d', places[chosen], epoch)
      redis.call('HSET', KEYS[1], room, claim)
      redis.call('HINCRBY', KEYS[3], places[chosen], 1)
      redis.call('ZADD', KEYS[2], now + ttl, room)
      if missed then
        redis.call('ZREM', KEYS[6], room)
      end
      answer = 'N' .. claim
    end
  end
  answers[#answers + 1] = answer or ''
end
for i = 1, count do
  answers[#answers + 1] = used[i]
end
return answers
