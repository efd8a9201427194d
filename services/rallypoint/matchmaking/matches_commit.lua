-- Bind tickets to a match: all of them while queued, or none.
-- KEYS epoch state queued match outbox placing
-- ARGV epoch match record ticket...
-- Returns {FENCED, epoch}, {CONFLICT, ticket, row...} naming every ticket not queued, or
-- {COMMITTED, ticket, row...}.
local epoch = redis.call('GET', KEYS[1])
if epoch ~= ARGV[1] then return {'FENCED', epoch or ''} end
local rows, conflict = {'COMMITTED'}, {'CONFLICT'}
for index = 4, #ARGV do
  local row = redis.call('HGET', KEYS[2], ARGV[index]) or ''
  local seq, requeues, player = string.match(row, '^Q|(%d+)|(%d+)|([^|]*)|')
  if seq then
    rows[#rows + 1] = ARGV[index]
    rows[#rows + 1] = 'P|' .. (seq + 1) .. '|' .. requeues .. '|' .. player .. '|' .. ARGV[2] .. '|'
  else
    conflict[#conflict + 1] = ARGV[index]
    conflict[#conflict + 1] = row
  end
end
if #conflict > 1 then return conflict end
for index = 2, #rows, 2 do
  redis.call('HSET', KEYS[2], rows[index], rows[index + 1])
  redis.call('ZREM', KEYS[3], rows[index])
  redis.call('XADD', KEYS[5], '*', 'ticket', rows[index], 'row', rows[index + 1])
end
redis.call('HSET', KEYS[4], ARGV[2], ARGV[3])
redis.call('SADD', KEYS[6], ARGV[2])
redis.call('XADD', KEYS[5], '*', 'match', ARGV[2], 'record', ARGV[3])
return rows
