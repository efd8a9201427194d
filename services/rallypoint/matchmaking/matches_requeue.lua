-- Dissolve a match that got no room; its tickets search on, with their old search start.
-- KEYS epoch state queued match outbox placing expiry
-- ARGV epoch match reason (ticket start_ms until_ms)...
-- Returns {FENCED, epoch} or {REQUEUED, ticket, row...} for the tickets it moved.
local epoch = redis.call('GET', KEYS[1])
if epoch ~= ARGV[1] then return {'FENCED', epoch or ''} end
redis.call('SREM', KEYS[6], ARGV[2])
local result = {'REQUEUED'}
for index = 4, #ARGV, 3 do
  local row = redis.call('HGET', KEYS[2], ARGV[index]) or ''
  local seq, requeues, player, match = string.match(row, '^P|(%d+)|(%d+)|([^|]*)|([^|]*)|')
  if match == ARGV[2] then
    row = 'Q|' .. (seq + 1) .. '|' .. (requeues + 1) .. '|' .. player .. '||' .. ARGV[3]
    redis.call('HSET', KEYS[2], ARGV[index], row)
    redis.call('ZADD', KEYS[3], ARGV[index + 1], ARGV[index])
    redis.call('ZADD', KEYS[7], ARGV[index + 2], ARGV[index])
    redis.call('XADD', KEYS[5], '*', 'ticket', ARGV[index], 'row', row)
    result[#result + 1] = ARGV[index]
    result[#result + 1] = row
  end
end
if #result > 1 then redis.call('HDEL', KEYS[4], ARGV[2]) end
return result
