"""How does PostgreSQL tell its listeners? By NOTIFY, in a connection and a transaction of its own.

A connection for each time, so that none lies in a pool that rows need, and a transaction-pooling proxy may stand between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Final

import psycopg

from appstatsd.activity.notices import Notice, NotTold
from appstatsd.errors import RowsRefused, StoreUnavailable
from appstatsd.store.errors import classified
from appstatsd.store.pool import BoundedConnection
from appstatsd.store.statements import statement
from appstatsd.store.url import redacted, with_defaults

CHANNEL: Final = "appstatsd_activity"
_SECONDS: Final = 10.0


class PostgresNotify:
    """Tells by `NOTIFY appstatsd_activity`, each workspace in a payload of its own."""

    def __init__(self, url: Callable[[], str], seconds: float = _SECONDS) -> None:
        """`url` may be empty for as long as there is no server; `seconds`: how long it may take."""
        self._url = url
        self._seconds = seconds

    def __call__(self, notices: Sequence[Notice]) -> None:
        """Tell of these.

        Raises:
            NotTold: the database does not take it.
        """
        url = self._url()
        if not url:
            raise NotTold("the embedded PostgreSQL does not run yet")
        payloads = [json.dumps(notice.as_json()) for notice in notices]
        text = statement("notify", timeout_ms=int(self._seconds * 1000))
        connecting = True
        try:
            with BoundedConnection.connect(
                with_defaults(url, connect_timeout="2"), prepare_threshold=None
            ) as connection:
                connecting = False
                connection.deadline = time.monotonic() + self._seconds
                connection.execute(text)
                connection.execute(
                    "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload", (CHANNEL, payloads)
                )
        except psycopg.Error as error:
            found: StoreUnavailable | RowsRefused = classified(error, redacted(url), connecting=connecting)
            raise NotTold(str(found)) from error
