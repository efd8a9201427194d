-- Mark claims as being cleaned up; who sees them next after `until` does it again.
-- KEYS: claims, expiry, built   ARGV: now ms, until ms, limit, rooms to mark now whatever their time …
-- Without rooms: all whose time is over. A claim in state M keeps it: its room is moved, not closed.
-- returns {1 if the claims are built, room, claim before, …}
local rooms = {}
if #ARGV > 3 then
  for i = 4, #ARGV do
    rooms[#rooms + 1] = ARGV[i]
  end
else
  rooms = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
end
local marked = {redis.call('EXISTS', KEYS[3])}
for _, room in ipairs(rooms) do
  local found = redis.call('HGET', KEYS[1], room)
  if found then
    if #ARGV > 3 or string.sub(found, 1, 1) ~= 'M' then
      redis.call('HSET', KEYS[1], room, 'X' .. string.sub(found, 2))
    end
    redis.call('ZADD', KEYS[2], ARGV[2], room)
    marked[#marked + 1] = room
    marked[#marked + 1] = found
  else
    redis.call('ZREM', KEYS[2], room)
  end
end
return marked
