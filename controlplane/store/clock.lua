-- Tells the time, which does not go back when the server's clock does, or when
-- another server takes over whose clock is behind.
--
-- KEYS[1]  where the epoch and the mark are: a time that was told, at most 0.1
--          seconds before the last one
-- ARGV[1]  the epoch, if there is none: who sees another one knows that everything
--          that was stored is gone
--
-- Answers a list of one: the time and the mark, in microseconds since 1970, and the
-- epoch.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local epoch, mark = string.match(redis.call('GET', KEYS[1]) or '', '^(%x+) (%d+)$')
if not epoch then
	epoch, mark = ARGV[1], 0
end
mark = tonumber(mark)
if now < mark then
	now = mark
elseif now >= mark + 100000 then
	mark = now
	redis.call('SET', KEYS[1], epoch .. ' ' .. string.format('%.0f', mark))
end
return {{now, mark, epoch}}
