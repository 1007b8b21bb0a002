"""What does a line of an access log become, whatever wrote it?

A format reads lines to columns. Which app a line tells of depends on few of its fields, and few apps stand in many lines:
so each format takes only the fields that the settings refer to, and asks for the app of each combination once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

from appstatsd.accesslog.entry import Entry
from appstatsd.accesslog.naming import Naming, Unnamed
from appstatsd.accesslog.origins import Header, InHost, Tag
from appstatsd.collect.apps import AppKey, app_key

REMOTE_USER: Final = "remote_user"
REMOTE_HOST: Final = "remote_host"
"""Tags that both formats have: who was authenticated, and the address that the request came from."""

_REASONS: Final = tuple(Unnamed)
_KEPT: Final = 100_000
"""How many combinations of fields are remembered."""


class Unread(Enum):
    """Why a line tells of no request."""

    MALFORMED = "not a line of the file's format"
    NO_REQUEST = "a line about something else than a request"


@dataclass(slots=True)
class Parsed:
    """Requests in the order of their lines; `app`, the times and `places` are of one length."""

    apps: Sequence[AppKey]
    """The apps of these lines, and of all before them; one list for a whole file."""
    app: list[int] = field(default_factory=list)
    """For each request the place of its app in `apps`."""
    started_us: list[int] = field(default_factory=list)
    ended_us: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Which of the lines each request stands in."""


class LogFormat(Protocol):
    """Reads lines of one format."""

    def parse(self, lines: Sequence[bytes], skipped: Counter[Enum]) -> Parsed:
        """What the lines tell of; those that tell of nothing are counted in `skipped`, by the reason."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The fields of a line that the settings refer to."""

    host: bool
    headers: tuple[str, ...]
    tags: tuple[str, ...]

    @staticmethod
    def by(naming: Naming) -> Wanted:
        """Those that this naming refers to; no file has other kinds of fields."""
        origins = naming.origins
        return Wanted(
            any(isinstance(origin, InHost) for origin in origins),
            tuple(sorted({origin.name for origin in origins if isinstance(origin, Header)})),
            tuple(sorted({origin.name for origin in origins if isinstance(origin, Tag)})),
        )


class Namer:
    """Finds the app of each combination of fields once."""

    def __init__(self, naming: Naming, entry: Callable[[Sequence[Any]], Entry]) -> None:
        """`entry` makes an entry of a combination of fields."""
        self._naming = naming
        self._entry = entry
        self._places: dict[AppKey, int] = {}
        self.apps: list[AppKey] = []
        """The apps found so far."""
        self.known: dict[Hashable, int] = {}
        """By combination of fields, the place of its app in `apps`, or what `reason` knows."""

    def learn(self, fields: tuple[Any, ...]) -> int:
        """The same of a combination that is not known yet."""
        found = self._naming.app_of(self._entry(fields))
        if isinstance(found, Unnamed):
            place = -1 - _REASONS.index(found)
        else:
            key = app_key(found.user_id, found.workspace_id, found.agent_id, found.access_method, found.slug_or_port)
            place = self._places.setdefault(key, len(self.apps))
            if place == len(self.apps):
                self.apps.append(key)
        self.known[fields] = place
        return place

    @staticmethod
    def reason(place: int) -> Unnamed | None:
        """Why there is no app; None where `place` is the place of one."""
        return _REASONS[-1 - place] if place < 0 else None

    def begin(self) -> None:
        """Other lines follow: what is remembered is forgotten where it has become too much."""
        if len(self.known) > _KEPT:
            self.known.clear()
