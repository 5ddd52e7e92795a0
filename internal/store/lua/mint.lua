-- Mints a fencing token for an operation outside of a job.
-- KEYS[1] unused; ARGV 1 a gen that the new one must be above; returns {'ok', gen}
-- | {'corrupt'} if that gen is too far in the future to be genuine
local gen = mint(tonumber(ARGV[1]))
if not gen then return { 'corrupt' } end
return { 'ok', int(gen) }
