"""Which reports wait, and what may never be lost? The pending reports of a client, one for each session, and their bounds.

A report that waits is the session's own state, so it is always the newest. Reports wait in pools:

- `kept`: reports of tracked sessions, those that the daemon may believe to be in use, or soon will. Never dropped.
- `ordinary`: ended sessions that the daemon has never heard of. Dropped, and counted, when there are too many.
- `alone`: tracked ones that were in a batch that the daemon refused. Each goes into a batch of its own.
- `held`: tracked ones that were refused alone. Tried again later.

Invariant: a report is in one pool at most; `kept`, `alone` and `held` hold tracked sessions only, of which there are at
most `max_live_sessions`; `ordinary` holds at most `max_pending_reports`. A session stops being tracked when its end is
acknowledged, or when it ends without ever having been put into a batch as live.
"""

from __future__ import annotations

from appstatsd_client.limits import SECOND_NS, Limits
from appstatsd_client.report import Report

REPORT_BYTES = 42
"""At most how much a report adds to a batch, its app aside."""


class Buffer:
    """Pending reports. Methods that may make a batch due sooner return whether a waiting sender has to look again."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._linger_ns = int(limits.linger_seconds * SECOND_NS)
        self._tracked: dict[Report, None] = {}
        self._kept: dict[Report, None] = {}
        self._ordinary: dict[Report, None] = {}
        self._alone: dict[Report, None] = {}
        self._held: dict[Report, int] = {}
        self._linger_ends_ns = 0
        self.live = 0
        """How many tracked sessions have no end."""
        self.dropped = 0
        """Reports lost so far."""
        self.closed = False
        """Whether nothing is taken any more, and all that waits is due."""

    @property
    def pending(self) -> int:
        """How many reports wait, those that are held back aside."""
        return len(self._kept) + len(self._ordinary) + len(self._alone)

    @property
    def waiting(self) -> int:
        """How many reports wait, all of them."""
        return self.pending + len(self._held)

    def begin(self, report: Report, now_ns: int) -> bool:
        """Tracks a new session and makes its live report pending, if there is room."""
        if self.closed:
            return False
        if len(self._tracked) >= self._limits.max_live_sessions:
            self.dropped += 1
            return False
        report.tracked = True
        self._tracked[report] = None
        self.live += 1
        return self._put(self._kept, report, now_ns)

    def changed(self, report: Report, now_ns: int) -> bool:
        """A live session has another count."""
        if not report.tracked or report.rejected:
            return False
        return self._keep(report, now_ns)

    def ended(self, report: Report, now_ns: int) -> bool:
        """A session has its end."""
        if report.tracked:
            self.live -= 1
            if report.said_live:
                return self._keep(report, now_ns)
            self._forget(report)
            self._kept.pop(report, None)
        if self.closed or len(self._ordinary) >= self._limits.max_pending_reports:
            self.dropped += 1
            return False
        return self._put(self._ordinary, report, now_ns)

    def report_live_again(self, now_ns: int) -> None:
        """Makes every tracked live session pending, due at once."""
        for report in self._tracked:
            if not report.ended_ns and not report.rejected:
                self._keep(report, now_ns)
        self._linger_ends_ns = now_ns

    def close(self, now_ns: int) -> None:
        """Ends every tracked live session. Takes nothing afterwards; what is held back is tried once more."""
        for report in list(self._tracked):
            if not report.ended_ns:
                report.end(now_ns)
                self.ended(report, now_ns)
        self.closed = True
        self._release(None)

    def is_due(self, now_ns: int) -> bool:
        """Whether a batch is to be cut."""
        self._release(now_ns)
        pending = self.pending
        if self.closed or pending >= self._limits.batch_max_reports:
            return pending > 0
        return pending > 0 and now_ns >= self._linger_ends_ns

    def due_at_ns(self) -> int | None:
        """When `is_due` will change its answer if nothing else happens; None: not at all."""
        times = [min(self._held.values())] if self._held else []
        if self.pending:
            times.append(self._linger_ends_ns)
        return min(times, default=None)

    def take(self) -> list[Report]:
        """The reports of the next batch, which are then not pending any more. There has to be one."""
        if self._alone:
            return [self._alone.popitem()[0]]
        taken: list[Report] = []
        apps = set()
        room = self._limits.batch_max_bytes
        for pool in (self._kept, self._ordinary):
            first = len(taken)
            for report in pool:
                room -= REPORT_BYTES
                if report.app not in apps:
                    apps.add(report.app)
                    room -= report.app.wire_bytes
                if taken and (room < 0 or len(taken) == self._limits.batch_max_reports):
                    break
                taken.append(report)
            for report in taken[first:]:
                del pool[report]
        for report in taken:
            if not report.ended_ns:
                report.said_live = True
        return taken

    def accepted(self, reports: list[Report], ends: list[Report]) -> None:
        """The daemon has acknowledged a batch of these reports; `ends` are those that had their end in it."""
        for report in ends:
            if report.tracked:
                self._forget(report)
        if len(reports) == 1:
            reports[0].alone = False

    def refused(self, reports: list[Report], now_ns: int) -> int:
        """The daemon has refused a batch of these reports: those of tracked sessions are pending again, each alone.

        Returns how many reports are lost.
        """
        lost = 0
        for report in reports:
            self._kept.pop(report, None)
            if not report.tracked:
                lost += 1
            elif len(reports) > 1:
                report.alone = True
                self._put(self._alone, report, now_ns)
            elif not self.closed:
                report.alone = True
                self._alone.pop(report, None)
                self._held[report] = now_ns + int(self._limits.refused_retry_seconds * SECOND_NS)
            else:
                self._alone.pop(report, None)
                self._forget(report)
                lost += 1
        self.dropped += lost
        return lost

    def _forget(self, report: Report) -> None:
        report.tracked = False
        del self._tracked[report]

    def _keep(self, report: Report, now_ns: int) -> bool:
        if report in self._held:
            return False
        return self._put(self._alone if report.alone else self._kept, report, now_ns)

    def _put(self, pool: dict[Report, None], report: Report, now_ns: int) -> bool:
        before = self.pending
        pool[report] = None
        if before == 0:
            self._linger_ends_ns = now_ns + self._linger_ns
            return True
        return before + 1 == self._limits.batch_max_reports

    def _release(self, now_ns: int | None) -> None:
        """Takes back what was held back until now; None: all of it."""
        if not self._held:
            return
        for report in [report for report, at_ns in self._held.items() if now_ns is None or at_ns <= now_ns]:
            del self._held[report]
            self._put(self._alone, report, now_ns or 0)
