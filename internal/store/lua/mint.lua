-- Mints a fencing token for an operation outside of a job.
-- KEYS[1] unused; ARGV 1 a gen that the new one must be above; returns {'ok', gen}
-- | {'corrupt'} if that one is too far in the future to be ours
local gen = mint(tonumber(ARGV[1]))
if not gen then return { 'corrupt' } end
return { 'ok', int(gen) }
