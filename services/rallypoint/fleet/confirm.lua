-- Rooms are made: their claims stay until they are released.
-- KEYS: claims, expiry   ARGV: pairs of room and place|epoch
-- returns for each 1, or 0 when the claim is another's now
local answers = {}
for i = 1, #ARGV, 2 do
  local room, mine = ARGV[i], ARGV[i + 1]
  local found = redis.call('HGET', KEYS[1], room)
  if not found or not string.find('CMR', string.sub(found, 1, 1)) or string.sub(found, 3) ~= mine then
    answers[#answers + 1] = 0
  else
    redis.call('HSET', KEYS[1], room, 'R|' .. mine)
    redis.call('ZREM', KEYS[2], room)
    answers[#answers + 1] = 1
  end
end
return answers
