-- Withdraw a queued ticket: compare-and-set from Q only.
-- KEYS state expiry queued outbox
-- ARGV ticket player purge_ms
-- Returns {CANCELLED | ENDED | MATCHED, row} or {UNKNOWN}.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then return {'UNKNOWN'} end
local state, seq, requeues, player = string.match(row, '^(%a)|(%d+)|(%d+)|([^|]*)|')
if player ~= ARGV[2] then return {'UNKNOWN'} end
if state == 'P' or state == 'A' then return {'MATCHED', row} end
if state ~= 'Q' then return {'ENDED', row} end
row = 'C|' .. (seq + 1) .. '|' .. requeues .. '|' .. player .. '||'
redis.call('HSET', KEYS[1], ARGV[1], row)
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('XADD', KEYS[4], '*', 'ticket', ARGV[1], 'row', row)
return {'CANCELLED', row}
