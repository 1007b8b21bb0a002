SELECT count(*)
{old_rows};
