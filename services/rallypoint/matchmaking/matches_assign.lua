-- Tell every ticket of a match where to play; starts their retention. Idempotent.
-- KEYS epoch state expiry match outbox placing
-- ARGV epoch match record purge_ms ticket...
-- Returns {FENCED, epoch}, {GONE} when the match no longer holds its tickets, or
-- {ASSIGNED, ticket, row...} with the rows as they now are.
local epoch = redis.call('GET', KEYS[1])
if epoch ~= ARGV[1] then return {'FENCED', epoch or ''} end
redis.call('SREM', KEYS[6], ARGV[2])
if redis.call('HEXISTS', KEYS[4], ARGV[2]) == 0 then return {'GONE'} end
local result, changed = {'ASSIGNED'}, {}
for index = 5, #ARGV do
  local row = redis.call('HGET', KEYS[2], ARGV[index]) or ''
  local state, seq, requeues, player, match = string.match(row, '^(%a)|(%d+)|(%d+)|([^|]*)|([^|]*)|')
  if match ~= ARGV[2] then return {'GONE'} end
  if state == 'P' then
    row = 'A|' .. (seq + 1) .. '|' .. requeues .. '|' .. player .. '|' .. match .. '|'
    changed[#changed + 1] = {ARGV[index], row}
  end
  result[#result + 1] = ARGV[index]
  result[#result + 1] = row
end
for _, pair in ipairs(changed) do
  redis.call('HSET', KEYS[2], pair[1], pair[2])
  redis.call('ZADD', KEYS[3], ARGV[4], pair[1])
  redis.call('XADD', KEYS[5], '*', 'ticket', pair[1], 'row', pair[2])
end
if #changed > 0 then redis.call('HSET', KEYS[4], ARGV[2], ARGV[3]) end
return result
