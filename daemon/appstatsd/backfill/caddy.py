"""How are lines of Caddy's access log read, which are JSON objects?

`ts` is when the request ended and `duration` how long it took, both in seconds (Caddy's defaults), so that a WebSocket of
hours is a session of hours. Lines that Caddy logs of itself have no `request`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from appstatsd.accesslog.entry import Entry
from appstatsd.accesslog.naming import Naming
from appstatsd.backfill.lines import REMOTE_HOST, REMOTE_USER, Namer, Parsed, Unread, Wanted

_SECOND_US: Final = 1_000_000
_TAGS: Final = (REMOTE_USER, REMOTE_HOST)
_LATEST_SECONDS: Final = 1e11
"""Thousands of years away: what is larger is no time in seconds."""


class CaddyFormat:
    """Reads lines of Caddy's access log; a `LogFormat`."""

    def __init__(self, naming: Naming) -> None:
        self._namer = Namer(naming, self._entry)
        wanted = Wanted.by(naming)
        self._host = wanted.host
        self._headers = tuple((name, _canonical(name)) for name in wanted.headers)
        self._tags = tuple(name for name in wanted.tags if name in _TAGS)

    def parse(self, lines: Sequence[bytes], skipped: Counter[Enum]) -> Parsed:
        """See `LogFormat`."""
        self._namer.begin()
        parsed = Parsed(self._namer.apps)
        known = self._namer.known
        for place, line in enumerate(lines):
            try:
                record = json.loads(line)
                request = record.get("request")
                if request is None:
                    skipped[Unread.NO_REQUEST] += 1
                    continue
                ended_us, lasted_us = _microseconds(record["ts"]), _microseconds(record.get("duration", 0))
                fields = self._fields(record, request)
                app = known.get(fields)
                if app is None:
                    app = self._namer.learn(fields)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                skipped[Unread.MALFORMED] += 1
                continue
            reason = Namer.reason(app)
            if reason is not None:
                skipped[reason] += 1
                continue
            parsed.app.append(app)
            parsed.started_us.append(ended_us - lasted_us)
            parsed.ended_us.append(ended_us)
            parsed.places.append(place)
        return parsed

    def _fields(self, record: Mapping[str, Any], request: Mapping[str, Any]) -> tuple[Hashable, ...]:
        headers = request.get("headers", {})
        found: list[Hashable] = [request["host"] if self._host else ""]
        for _, name in self._headers:
            values = headers.get(name)
            found.append(values[0] if values else "")
        for name in self._tags:
            found.append(record.get("user_id", "") if name == REMOTE_USER else request.get("remote_ip", ""))
        return tuple(found)

    def _entry(self, fields: Sequence[Hashable]) -> Entry:
        host, *others = (_text(value) for value in fields)
        headers, tags = others[: len(self._headers)], others[len(self._headers) :]
        return Entry(
            host=host,
            headers=dict(zip((name for name, _ in self._headers), headers, strict=True)),
            tags=dict(zip(self._tags, tags, strict=True)),
        )


def _canonical(name: str) -> str:
    """A header's name as Caddy writes it."""
    return "-".join(part.capitalize() for part in name.split("-"))


def _microseconds(seconds: float) -> int:
    if isinstance(seconds, bool) or not 0 <= seconds < _LATEST_SECONDS:
        raise ValueError(f"{seconds!r} is no number of seconds")
    return round(seconds * _SECOND_US)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # raises UnicodeEncodeError, which is a ValueError, for half of a surrogate pair
    return value
