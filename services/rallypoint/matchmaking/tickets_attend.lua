-- Somebody attends to tickets: those that are queued end later, never earlier.
-- KEYS state expiry
-- ARGV (ticket until_ms)...
-- Returns how many of them are queued.
local queued = 0
for index = 1, #ARGV, 2 do
  local row = redis.call('HGET', KEYS[1], ARGV[index])
  if row and string.sub(row, 1, 1) == 'Q' then
    redis.call('ZADD', KEYS[2], 'XX', 'GT', ARGV[index + 1], ARGV[index])
    queued = queued + 1
  end
end
return queued
