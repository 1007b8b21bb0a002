old.updated_at > excluded.updated_at AND old.updated_at <= excluded.updated_at + interval '{skew_us} microseconds'
