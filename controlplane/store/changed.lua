-- Reads each entry that has not the version that is known. An entry is a string: its
-- version, 16 hexadecimal digits, and its data.
--
-- KEYS[n]  an entry
-- ARGV[n]  its version that is known
--
-- Answers for each 1 if it has that version, 0 if there is something that is no string,
-- and else the entry, nil if there is none.
local found = {}
for n, key in ipairs(KEYS) do
	local version = redis.pcall('GETRANGE', key, 0, 15)
	if type(version) == 'table' then
		found[n] = 0
	elseif version == ARGV[n] then
		found[n] = 1
	else
		found[n] = redis.call('GET', key)
	end
end
return found
