"""How does an event become a line of the log?

structlog's events and those of the standard library (gRPC, asyncio, psycopg's pool) take one way: the same fields, the
same level, one handler on standard error. Invariants: an event is one write, its exception included; no value of an event
leaves here with a password of a database in it; what a client can cause is written at a bounded rate.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from appstatsd.observe import journald

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Levels as syslog and systemd number them."""

_URL_PASSWORD: Final = re.compile(r"([a-z][a-z0-9+.-]*://[^\s:/?#@]*:)\S*@", re.IGNORECASE)
# As in `password=...`, `password='...'` and `'password': '...'`.
_NAMED_PASSWORD: Final = re.compile(
    r"""(password["']?\s*[=:]\s*)('(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|[^\s&,;}\])]+)""", re.IGNORECASE
)


def configure(level: str, form: str, stream: TextIO, journal: journald.Send | None = None) -> None:
    """Write all events of this process to `stream`, or to systemd's journal.

    `level`: debug, info, warning or error. `form`: `console` for people, `json`, or `journal`: fields of the journal where
    there is one to send them to, else JSON on `stream` behind the priority prefix by which a journal knows the level.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler: logging.Handler = logging.StreamHandler(stream)
    renderer = _renderer(form, stream)
    if form == "journal" and journal is not None:
        handler, renderer = journald.JournalHandler(journal), journald.entry
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                without_passwords,
                renderer,
            ],
        )
    )
    logging.getLogger().handlers = [handler]
    set_level(level)
    # It warns of each attempt to connect that fails; that the database is away is said once, by who waits for it.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def set_level(level: str) -> None:
    """From now on, write events of this level and above."""
    logging.getLogger().setLevel(level.upper())


def without_passwords(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Processor: hide what looks like a database's password, in all values. What is no plain data becomes text."""
    return {name: _hidden(value, name) for name, value in event.items()}


def hide_passwords(text: str) -> str:
    """The text, with `***` for what looks like a database's password."""
    return _NAMED_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1***@", text))


def _hidden(value: object, name: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(name, str) and name.lower().endswith("password"):
        return "***"
    if isinstance(value, Mapping):
        return {key: _hidden(part, key) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden(part, None) for part in value]
    return hide_passwords(value if isinstance(value, str) else str(value))


def _renderer(form: str, stream: TextIO) -> Processor:
    if form == "console":
        # Texts of a client's choice are written as Python would: they cannot play with the terminal.
        return structlog.dev.ConsoleRenderer(colors=stream.isatty(), repr_native_str=True)
    return structlog.processors.JSONRenderer(serializer=_json if form == "json" else _json_with_priority)


def _json(event: EventDict, **_: object) -> str:
    """One line. What every event has comes first, in one order."""
    first = {name: event.pop(name, "") for name in ("timestamp", "level", "logger", "event")}
    return json.dumps({**first, **event}, ensure_ascii=False)


def _json_with_priority(event: EventDict, **_: object) -> str:
    return f"<{_PRIORITIES[event['level']]}>{_json(event)}"


def _thread_died(died: threading.ExceptHookArgs) -> None:
    name = died.thread.name if died.thread else "unknown"
    error = died.exc_value or died.exc_type()
    structlog.get_logger("appstatsd").critical("A thread died", thread=name, exc_info=error)


@dataclass(slots=True)
class _Burst:
    """Events of one kind in one interval."""

    began: float
    count: int = 0


class RateLimited:
    """Writes events that a client can cause: some of each kind in an interval, and how many more there were.

    A kind is a word of ours, never a text of a client's choice: each is kept for good. Thread-safe.
    """

    def __init__(
        self, log: FilteringBoundLogger, *, most: int, interval_seconds: float, clock: Callable[[], float]
    ) -> None:
        """`most` events of each kind in `interval_seconds`, as `clock` measures it (seconds, monotonic)."""
        self._log = log
        self._most = most
        self._interval = interval_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._bursts: dict[str, _Burst] = {}  # guarded by _lock

    def warning(self, kind: str, event: str, **fields: object) -> None:
        """Write the event, unless its kind has had its share of this interval."""
        now = self._clock()
        with self._lock:
            suppressed = self._end(kind, now)
            burst = self._bursts.setdefault(kind, _Burst(now))
            burst.count += 1
            written = burst.count <= self._most
        self._tell(kind, suppressed)
        if written:
            self._log.warning(event, **fields)

    def settle(self) -> None:
        """Say what was suppressed in intervals that are over. To be called now and then, lest a last burst go unsaid."""
        now = self._clock()
        with self._lock:
            ended = [(kind, self._end(kind, now)) for kind in list(self._bursts)]
        for kind, suppressed in ended:
            self._tell(kind, suppressed)

    def _end(self, kind: str, now: float) -> int:
        """End the kind's interval if it is over; how many events of it were suppressed. Called with the lock held."""
        burst = self._bursts.get(kind)
        if burst is None or now - burst.began < self._interval:
            return 0
        del self._bursts[kind]
        return max(0, burst.count - self._most)

    def _tell(self, kind: str, suppressed: int) -> None:
        if suppressed:
            self._log.warning("Suppressed further events of a kind", kind=kind, suppressed=suppressed)
