"""Which database, and how is it shown to people? Never with a password.

Invariant: nothing but `text` holds the password; neither `str` nor `repr` shows it, so that it reaches no log, no status
and no error by accident.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A PostgreSQL database as its owner wrote it, as a URL or in libpq's keyword=value form."""

    text: str = field(repr=False)
    """What libpq is given; may hold a password."""
    shown: str
    """The same without a password."""

    @staticmethod
    def parse(text: str) -> DatabaseUrl:
        """From what libpq would take.

        Raises:
            ValueError: libpq would not take it, or takes a part of a password for a host or a port. Says nothing of
                the text, since any part of it may be a password.
        """
        # libpq decides; it is loaded only where there is something to decide.
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        from appstatsd.store.url import redacted

        try:
            parts = {name: str(value) for name, value in conninfo_to_dict(text).items()}
        except (ProgrammingError, UnicodeError):
            raise ValueError from None
        ports = parts.get("port", "").split(",")
        if not parts or "@" in parts.get("host", "") or not all(port.isdecimal() for port in ports if port):
            raise ValueError
        return DatabaseUrl(text, redacted(text))

    def __str__(self) -> str:
        return self.shown
