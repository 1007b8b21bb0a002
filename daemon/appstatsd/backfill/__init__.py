"""Rows out of access-log files, for the time before there was a daemon."""
