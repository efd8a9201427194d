-- End queued tickets whose time is over (domain/attention.py); forget ended ones after their retention.
-- KEYS epoch state body expiry queued player match outbox
-- ARGV epoch now_ms purge_ms again_ms limit
-- Returns {FENCED, epoch} or {EXPIRED, looked_at, ticket, row, ...}.
local epoch = redis.call('GET', KEYS[1])
if epoch ~= ARGV[1] then return {'FENCED', epoch or ''} end
local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ARGV[2], 'LIMIT', 0, ARGV[5])
local result = {'EXPIRED', tostring(#due)}
for _, ticket in ipairs(due) do
  local row = redis.call('HGET', KEYS[2], ticket) or 'X|0|0|||'
  local state, seq, requeues, player, match = string.match(row, '^(%a)|(%d+)|(%d+)|([^|]*)|([^|]*)|')
  if state == 'Q' then
    row = 'E|' .. (seq + 1) .. '|' .. requeues .. '|' .. player .. '||'
    redis.call('HSET', KEYS[2], ticket, row)
    redis.call('ZADD', KEYS[4], ARGV[3], ticket)
    redis.call('ZREM', KEYS[5], ticket)
    redis.call('XADD', KEYS[8], '*', 'ticket', ticket, 'row', row)
    result[#result + 1] = ticket
    result[#result + 1] = row
  elseif state == 'P' then
    redis.call('ZADD', KEYS[4], ARGV[4], ticket)
  else
    redis.call('HDEL', KEYS[2], ticket)
    redis.call('HDEL', KEYS[3], ticket)
    redis.call('ZREM', KEYS[4], ticket)
    if player ~= '' and redis.call('HGET', KEYS[6], player) == ticket then
      redis.call('HDEL', KEYS[6], player)
    end
    if match ~= '' then redis.call('HDEL', KEYS[7], match) end
  end
end
return result
