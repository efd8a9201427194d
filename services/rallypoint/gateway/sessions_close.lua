-- Revoke a family that belongs to the player. An unknown one is already closed.
-- KEYS[1] the family; ARGV: player. Returns 1 when it is closed now, 0 when it is another's.
local player = redis.call('HGET', KEYS[1], 'player')
if player and player ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
return 1
