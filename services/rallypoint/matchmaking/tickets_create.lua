-- Put a ticket in its queue. Idempotent by ticket id; one live ticket per player.
-- KEYS state body expiry queued player outbox
-- ARGV ticket player body until_ms start_ms
-- Returns {MADE | SAME | EXISTS, ticket, row}; a row is state|seq|requeues|player|match|reason.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if row then return {'SAME', ARGV[1], row} end
local live = redis.call('HGET', KEYS[5], ARGV[2])
if live then
  local standing = redis.call('HGET', KEYS[1], live)
  if standing and string.match(standing, '^[QP]|') then return {'EXISTS', live, standing} end
end
row = 'Q|1|0|' .. ARGV[2] .. '||'
redis.call('HSET', KEYS[1], ARGV[1], row)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[5], ARGV[1])
redis.call('HSET', KEYS[5], ARGV[2], ARGV[1])
redis.call('XADD', KEYS[6], '*', 'ticket', ARGV[1], 'row', row)
return {'MADE', ARGV[1], row}
