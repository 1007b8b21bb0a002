"""What does the model remember? One object for each session, group and client.

All times are microseconds, UTC since the Unix epoch, but where `mono` or `grace` is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from appstatsd.collect.batch import ReportedApp


@dataclass(eq=False)
class Session:
    """One use of one app by one user, and what has become of it."""

    session_id: bytes
    app: ReportedApp
    started: int
    group: Group
    client: Client
    """Whose report of it was accepted last."""
    ended: int | None = None
    """None while it is live."""
    inferred: bool = False
    """The end is the daemon's own guess."""
    requests: int = 0
    reported_wall: int = 0
    """When its last report was accepted."""
    reported_grace: int = 0
    """The same on the clock that graces and time-outs are measured on."""
    own: bool = False
    """It has been written as a row of its own."""
    settled: bool = False
    """It has an end and is in a row."""
    settled_at: int = 0
    """The latest `now` of a flush that settled it."""
    written: tuple[int, int | None] = (0, None)
    """The requests and the end that the row it was settled into knows of."""

    @property
    def live(self) -> bool:
        return self.ended is None


@dataclass(eq=False)
class Group:
    """Sessions of one app that began in one window."""

    app: ReportedApp
    started: int
    """Start of its window."""
    window: int
    session_id: bytes | None = None
    """Of the first session rolled into its row; None while it has no row."""
    requests: int = 0
    sessions: int = 0
    changed: bool = False


@dataclass(eq=False)
class Client:
    """One sending process."""

    connected: bool
    tells_log: bool = False
    """It does not report, but tells its access log."""
    away_wall: int = 0
    """Since when it is away; its last sign of life."""
    away_mono: int = 0
    """The same on the monotonic clock."""
    away_grace: int = 0
    """The same on the clock that graces and time-outs are measured on."""
    grace_is_over: bool = False
    """It has been away for longer than the grace, and what it had left live has ended."""
