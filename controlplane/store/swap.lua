-- Changes an entry that has the expected version. An entry is a string: its
-- version, 16 hexadecimal digits, and its data.
--
-- KEYS[1]  the entry
-- ARGV[1]  its expected version; empty if it must not be there
-- ARGV[2]  the new entry; empty if it is to be taken away
-- ARGV[3]  how many milliseconds it stays; 0 for ever
--
-- Answers 1 if the entry is as the change wants it, 0 if it had another version.
-- The new version is drawn for this one change, so a change that is sent again
-- because its answer was lost finds that it has been made.
local version = redis.call('GETRANGE', KEYS[1], 0, 15)
if ARGV[2] ~= '' and version == string.sub(ARGV[2], 1, 16) then
	return 1
end
if version ~= ARGV[1] then
	return 0
end
if ARGV[2] == '' then
	redis.call('DEL', KEYS[1])
elseif ARGV[3] == '0' then
	redis.call('SET', KEYS[1], ARGV[2])
else
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
