-- Changes each entry that has the expected version. An entry is a string: its
-- version, 16 hexadecimal digits, and its data.
--
-- KEYS[n]        an entry
-- ARGV[3n - 2]   its expected version; empty if it must not be there
-- ARGV[3n - 1]   the new entry; empty if it is to be taken away
-- ARGV[3n]       how many milliseconds it stays; 0 for ever
--
-- Answers for each 1 if the entry is as the change wants it, 0 if it had another
-- version. The new version is drawn for this one change, so a change that is sent
-- again because its answer was lost finds that it has been made.
local made = {}
for n, key in ipairs(KEYS) do
	local expected, entry, stay = ARGV[3 * n - 2], ARGV[3 * n - 1], ARGV[3 * n]
	local version = redis.call('GETRANGE', key, 0, 15)
	made[n] = 1
	if entry ~= '' and version == string.sub(entry, 1, 16) then
		-- It was made before.
	elseif version ~= expected then
		made[n] = 0
	elseif entry == '' then
		redis.call('DEL', key)
	elseif stay == '0' then
		redis.call('SET', key, entry)
	else
		redis.call('SET', key, entry, 'PX', stay)
	end
end
return made
