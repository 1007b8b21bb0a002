"""How are lines of the combined log format read, as Apache and nginx write it?

    203.0.113.7 - ann [24/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 512 "referrer" "user agent"

Also the common format, which lacks the last two, and Apache's vhost_combined, which begins with the virtual host and its
port. What a format of somebody's own has behind that is passed over. A line has one time, to the second: a request is a
session without length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from operator import itemgetter
from typing import Final

from appstatsd.accesslog.entry import Entry
from appstatsd.accesslog.naming import Naming
from appstatsd.backfill.lines import REMOTE_HOST, REMOTE_USER, Namer, Parsed, Unread, Wanted

_QUOTED: Final = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_SHORT: Final = re.compile(
    rb"(?:([^ ]+:\d+) )?([^ ]+) [^ ]+ (.+?) \[([^\]]+)\] " + _QUOTED + rb" \d{3} (?:\d+|-)(?= |\r?$)"
)
_LONG: Final = re.compile(_SHORT.pattern + rb"(?: " + _QUOTED + rb" " + _QUOTED + rb")?")
"""With the referrer and the user agent, which few want."""
_HOST, _REMOTE_HOST, _REMOTE_USER, _TIME, _REFERER, _USER_AGENT = 1, 2, 3, 4, 6, 7
_HEADERS: Final = {"referer": _REFERER, "user-agent": _USER_AGENT}
_TAGS: Final = {REMOTE_USER: _REMOTE_USER, REMOTE_HOST: _REMOTE_HOST}
_WHEN: Final = re.compile(rb"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), 1
    )
}
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENTS_KEPT: Final = 10_000
_NEVER: Final = -(2**62)
"""What is no time."""


class CombinedFormat:
    """Reads lines of the combined log format; a `LogFormat`."""

    def __init__(self, naming: Naming) -> None:
        wanted = Wanted.by(naming)
        self._fields: dict[int, tuple[str, str]] = {}
        if wanted.host:
            self._fields[_HOST] = "host", ""
        for kind, names, places in (("header", wanted.headers, _HEADERS), ("tag", wanted.tags, _TAGS)):
            self._fields |= {places[name]: (kind, name) for name in names if name in places}
        self._match = (_LONG if self._fields.keys() & {_REFERER, _USER_AGENT} else _SHORT).match
        self._namer = Namer(naming, self._entry)
        self._moments: dict[bytes, int] = {}

    def parse(self, lines: Sequence[bytes], skipped: Counter[Enum]) -> Parsed:
        """See `LogFormat`."""
        self._namer.begin()
        if len(self._moments) > _MOMENTS_KEPT:
            self._moments.clear()
        parsed = Parsed(self._namer.apps)
        known, moments = self._namer.known, self._moments
        fields_of = _fields_of(tuple(self._fields))
        for place, match in enumerate(map(self._match, lines)):
            if match is None:
                skipped[Unread.MALFORMED] += 1
                continue
            fields = fields_of(match)
            when = match[_TIME]
            moment = moments.get(when)
            if moment is None:
                moment = moments[when] = _moment(when)
            app = known.get(fields)
            if app is None:
                app = self._namer.learn(fields)
            if app < 0 or moment == _NEVER:
                skipped[Unread.MALFORMED if moment == _NEVER else Namer.reason(app) or Unread.MALFORMED] += 1
                continue
            parsed.app.append(app)
            parsed.started_us.append(moment)
            parsed.places.append(place)
        parsed.ended_us = parsed.started_us
        return parsed

    def _entry(self, values: Sequence[bytes | None]) -> Entry:
        host = ""
        found: dict[str, dict[str, str]] = {"header": {}, "tag": {}}
        for (kind, name), value in zip(self._fields.values(), values, strict=True):
            text = _text(value)
            if kind == "host":
                host = text
            else:
                found[kind][name] = text
        return Entry(host=host, headers=found["header"], tags=found["tag"])


def _fields_of(places: tuple[int, ...]) -> Callable[[re.Match[bytes]], tuple[bytes | None, ...]]:
    """What takes these groups of a match, as a tuple however many they are."""
    if not places:
        return lambda match: ()
    if len(places) == 1:
        return lambda match: (match[places[0]],)
    return itemgetter(*places)


def _moment(text: bytes) -> int:
    """Microseconds since the Unix epoch."""
    match = _WHEN.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return _NEVER
    day, _, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    zone = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    try:
        at = datetime(
            *(int(year), _MONTHS[match[2]], int(day), int(hour), int(minute), int(second)),
            tzinfo=timezone(-zone if sign == b"-" else zone),
        )
    except ValueError:
        return _NEVER
    return (at - _EPOCH) // timedelta(microseconds=1)


def _text(value: bytes | None) -> str:
    """A field as text; what the server escaped is as it was, and a lone hyphen is nothing."""
    if value is None or value == b"-":
        return ""
    plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]) if match[1] else match[2], value)
    return plain.decode(errors="replace")
