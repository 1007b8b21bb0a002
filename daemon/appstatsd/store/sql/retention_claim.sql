-- Answers one row where no pass began lately. Clocks of hosts play no part: a wrong one would remove too much.
UPDATE appstatsd_retention SET pass_began_at = now()
WHERE pass_began_at <= now() - interval '{every_us} microseconds'
RETURNING true;
