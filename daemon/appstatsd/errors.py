"""The errors that cross a boundary between two parts. Where one arises it is known whether trying again can help."""

from __future__ import annotations


class AppstatsdError(Exception):
    """Base of all errors of the daemon's own."""


class RowsRefused(AppstatsdError):
    """The database refuses the content of at least one row; it would refuse it again."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        """The database's own words, or the client library's."""
        self.sqlstate = sqlstate
        """Five characters, or None where the client library refused."""


class StoreUnavailable(AppstatsdError):
    """The database does not take rows at present; the same rows may succeed later."""

    def __init__(self, message: str, sqlstate: str | None = None, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        """What happened, in the words of the database or the library, without a password."""
        self.sqlstate = sqlstate
        """Five characters, or None where no server answered."""
        self.advice = advice
        """What a person must do; empty where waiting is enough."""

    def __str__(self) -> str:
        return f"{self.message} ({self.advice})" if self.advice else self.message


class BrokenMessage(AppstatsdError):
    """A message breaks the protocol; the text says what was expected."""
