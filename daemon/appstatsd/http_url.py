"""Where is something that is reached over HTTP?"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """An `http` or `https` URL, in the parts that a connection takes."""

    secure: bool
    """Whether it is `https`."""
    host: str
    port: int
    target: str
    """Path and query; may hold a token."""

    @staticmethod
    def parse(text: str) -> HttpUrl:
        """From its usual form.

        Raises:
            ValueError: it is none; says why where that is not obvious.
        """
        parts = urlsplit(text)
        plain = text.isascii() and text.isprintable() and " " not in text
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            raise ValueError
        if parts.username is not None:
            raise ValueError("user and password can't stand in it")
        secure = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return HttpUrl(secure, parts.hostname, parts.port or (443 if secure else 80), target)

    @property
    def origin(self) -> str:
        """Without path and query, to be shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"
