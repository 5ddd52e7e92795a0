-- Mints a fencing token for an operation that no job does.
-- KEYS[1] unused; ARGV 1 a gen that the new one must be above; returns {'ok', gen}
return { 'ok', int(mint(tonumber(ARGV[1]))) }
