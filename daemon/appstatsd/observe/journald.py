"""How does an event come into systemd's journal with all that it says, each value under a name of its own?

As fields beside the message: `APPSTATSD_BACKLOG_ROWS=3` can be asked for (journalctl APPSTATSD_BACKLOG_ROWS=3), and is in
`journalctl -o json`. The message has them too, for people. Invariant: what the fields are called is ours, never a client's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Final

from structlog.typing import EventDict

Send = Callable[..., object]
"""Takes the fields of one entry, by name."""

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def journal(environ: Mapping[str, str]) -> Send | None:
    """What writes into the journal, where systemd has connected standard error to it; None: nothing does."""
    if not environ.get("JOURNAL_STREAM"):
        return None
    try:
        from cysystemd.journal import send
    except ImportError:
        return None
    written: Send = send
    return written


def entry(_logger: object, _method: str, event: EventDict) -> str:
    """Processor: the event as the journal's fields, in JSON, as a formatter's result has to be text."""
    level, logger = str(event.pop("level")), str(event.pop("logger", ""))
    event.pop("timestamp", None)  # the journal has its own
    text, exception = str(event.pop("event")), event.pop("exception", None)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in event.items()}
    message = " ".join([text, *(f"{name}={value}" for name, value in texts.items())])
    fields = {
        "MESSAGE": message if exception is None else f"{message}\n{exception}",
        "PRIORITY": str(_PRIORITIES[level]),
        "SYSLOG_IDENTIFIER": "appstatsd",
        "APPSTATSD_LOGGER": logger,
        "APPSTATSD_EVENT": text,
        **{f"APPSTATSD_{name.upper()}": value for name, value in texts.items()},
    }
    return json.dumps(fields)


class JournalHandler(logging.Handler):
    """Writes events into the journal; its formatter makes an `entry` of each."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event. What goes wrong is told on standard error, as by all handlers."""
        try:
            self._send(**json.loads(self.format(record)))
        except Exception:  # A log that fails must not end what it tells of.
            self.handleError(record)
