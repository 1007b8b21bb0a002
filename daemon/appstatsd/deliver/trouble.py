"""When does the log speak of rows that cannot be written?

Once when trouble begins, with what to do about it, once more where its reason changes, and once when it is over: not for
each attempt. And not for each of many short troubles: within a minute of a line the next ones are left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final

import structlog

from appstatsd.collect.apps import AGENT, USER, WORKSPACE
from appstatsd.deliver.outbox import Waiting
from appstatsd.errors import RowsRefused, StoreUnavailable

QUIET_SECONDS: Final = 60.0
"""How long no further trouble is spoken of after a line."""

QUARANTINE_QUIET_SECONDS: Final = 5.0
"""How long no further quarantined row is spoken of after one."""


class TroubleLog:
    """What the log says of the way to the database. Used by the deliverer's thread alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._log = structlog.get_logger("appstatsd.deliver")
        self._clock = clock
        self._since: float | None = None
        """When the trouble began; None: there is none."""
        self._attempts = 0
        self._said: tuple[str | None, str] | None = None
        """Of which reason the log spoke in this trouble."""
        self._quiet_until = float("-inf")
        self._quarantine_quiet_until = float("-inf")
        self._left_out = 0

    @property
    def lasts(self) -> bool:
        """Whether the last attempt came to nothing."""
        return self._since is not None

    def failed(self, error: StoreUnavailable, waiting: int) -> None:
        """An attempt came to nothing; so many rows wait."""
        now = self._clock()
        if self._since is None:
            self._since, self._attempts, self._said = now, 0, None
        self._attempts += 1
        reason = (error.sqlstate, error.advice)
        if reason == self._said or now < self._quiet_until:
            return
        self._said = reason
        self._quiet_until = now + QUIET_SECONDS
        self._log.error(
            "Rows cannot be written; they wait in the backlog and are tried again",
            reason=error.message,
            sqlstate=error.sqlstate,
            what_to_do=error.advice or "nothing, unless it lasts",
            backlog_rows=waiting,
        )

    def over(self, waiting: int) -> bool:
        """Rows were committed; so many more wait. Returns whether there was trouble before."""
        if self._since is None:
            return False
        seconds = self._clock() - self._since
        self._since = None
        if self._said is not None:
            self._log.warning(
                "Rows can be written again",
                seconds=round(seconds, 1),
                attempts=self._attempts,
                backlog_rows=waiting,
            )
        return True

    def quarantined(self, row: Waiting, refusal: RowsRefused) -> None:
        """A row goes to quarantine."""
        now = self._clock()
        if now < self._quarantine_quiet_until:
            self._left_out += 1
            return
        [app] = row.rows.apps
        self._log.warning(
            "A row goes to quarantine, the database refuses it; see `appstatsd quarantine`",
            reason=refusal.message,
            sqlstate=refusal.sqlstate,
            user_id=str(uuid.UUID(bytes=app[USER])),
            workspace_id=str(uuid.UUID(bytes=app[WORKSPACE])),
            agent_id=str(uuid.UUID(bytes=app[AGENT])),
            session_id=str(uuid.UUID(bytes=row.rows.cells["session_id"].tobytes())),
            others_not_logged=self._left_out,
        )
        self._left_out = 0
        self._quarantine_quiet_until = now + QUARANTINE_QUIET_SECONDS
