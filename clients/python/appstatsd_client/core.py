"""What does the client say next, and when? Buffer and protocol of `docs/client-protocol.md`, without I/O.

The shell (a thread or a task) tells the core what the transport did and asks what to send; time, random numbers and
statuses are passed in. Whoever calls it holds the client's lock.

Invariant: the batches in `_unacked` are numbered without a gap, end at `_next_number - 1`, and the first `_sent` of them
were sent on the present stream. No batch is sent before the stream's first answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from appstatsd_client import events
from appstatsd_client.batch import Batch
from appstatsd_client.buffer import Buffer
from appstatsd_client.limits import SECOND_NS, Limits
from appstatsd_client.report import Report
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb

REFUSALS: Final = frozenset({"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"})
"""Something that was sent is at fault."""
MISTAKEN_IDENTITY: Final = frozenset({"ALREADY_EXISTS", "ABORTED"})
"""The client_id is in use twice."""
FOR_A_PERSON: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"})
"""Nothing that the client could do would mend it."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a client holds and has done."""

    client_id: str
    """Empty before the first stream."""
    connected: bool
    live_sessions: int
    pending_reports: int
    unacknowledged_reports: int
    acknowledged_reports: int
    rejected_reports: int
    dropped_reports: int


class Core:
    """A client's state: what waits, what is on its way, and where the stream is."""

    def __init__(
        self, limits: Limits, new_client_id: Callable[[], str], uniform: Callable[[float, float], float]
    ) -> None:
        self._limits = limits
        self._new_client_id = new_client_id
        self._uniform = uniform
        self.buffer = Buffer(limits)
        self._client_id = ""
        self._unacked: deque[Batch] = deque()
        self._next_number = 1
        self._last_sent = 0  # the highest number sent under this client_id
        self._singly = False
        self._opened_at_ns: int | None = None  # None: no stream
        self._answered = False
        self._sent = 0
        self._closing_sent = False
        self._misused = ""  # why the client_id cannot be ours alone
        self._attempts = 0
        self._failures = 0
        self._acknowledged = 0
        self._rejected = 0
        self._dropped_told = 0
        self._events: list[events.Event] = []
        self.connect_at_ns = 0
        """When the next stream is to be opened, on the monotonic clock."""
        self.done = False
        """Whether there is nothing more to do, ever."""
        self.confirmed = False
        """Whether the daemon has confirmed everything after `close`."""

    def close(self, now_ns: int) -> None:
        """Ends what is left; what waits is due now, and so is the next attempt to connect."""
        if self.buffer.closed:
            return
        self.buffer.close(now_ns)
        self.connect_at_ns = now_ns
        self._attempts = 0
        if not self._last_sent and not self._unacked and not self.buffer.waiting:
            self._finish(confirmed=True)

    def abandon(self) -> None:
        """Gives up: takes nothing any more, and what was not acknowledged is lost."""
        if not self.done:
            self.buffer.closed = True
            self._finish(confirmed=False)

    def opened(self, now_ns: int) -> bytes:
        """A stream is being opened. Returns its first message."""
        if not self._client_id:
            self._client_id = self._new_client_id()
        self._opened_at_ns = now_ns
        first = pb.StreamReportsRequest(client_id=self._client_id, dropped_reports=self.buffer.dropped)
        return first.SerializeToString()

    def answered(self, response: pb.StreamReportsResponse, now_ns: int) -> bool:
        """The daemon has answered. False: it speaks of what was never sent, and the stream has to be cancelled."""
        if response.acked_sequence > self._last_sent:
            self._misused = f"{response.acked_sequence} is acknowledged, and {self._last_sent} was the last one sent"
            return False
        self._reject(response)
        self._acknowledge(response.acked_sequence)
        if not self._answered:
            self._answered = True
            self._failures = 0
            self._events.append(events.Connected(self._client_id, response.acked_sequence))
            self.buffer.report_live_again(now_ns)
        return True

    def next_message(self, now_ns: int) -> bytes | None:
        """The message to send now; None: none yet (see `look_again_at_ns`)."""
        if not self._answered or self._closing_sent or (self._singly and self._sent):
            return None
        if self._sent == len(self._unacked):
            if not self._may_cut() or not self.buffer.is_due(now_ns):
                return self._closing()
            self._unacked.append(Batch(self._next_number, self.buffer.take()))
            self._next_number += 1
        batch = self._unacked[self._sent]
        self._sent += 1
        self._last_sent = max(self._last_sent, batch.number)
        return batch.message(self.buffer.dropped)

    def look_again_at_ns(self) -> int | None:
        """When `next_message` may have something though nothing else happened; None: not before something does."""
        if not self._answered or not self._may_cut():
            return None
        return self.buffer.due_at_ns()

    def ended(self, status: str, details: str, retry_delay_ms: int | None, now_ns: int) -> None:
        """The stream has ended, or could not be opened, with this gRPC status (by name)."""
        if self.done:
            return
        if self._closing_sent and status == "OK":
            self._finish(confirmed=True)
            return
        if self._misused:
            status, details = "ALREADY_EXISTS", self._misused
        if status in REFUSALS:
            if self._sent == 1 and self._unacked[0].number == 1:
                self._refuse(self._unacked.popleft(), status, details, now_ns)
            self._singly = True
        if status in REFUSALS or status in MISTAKEN_IDENTITY:
            self._replace_client_id(status, details)
        if self._answered and self._opened_at_ns is not None:
            lasted_ns = now_ns - self._opened_at_ns
            if lasted_ns >= self._limits.backoff_max_seconds * SECOND_NS:
                self._attempts = 0
        self._opened_at_ns, self._answered, self._sent, self._closing_sent, self._misused = None, False, 0, False, ""
        wait_seconds = self._wait_seconds(status, retry_delay_ms)
        self.connect_at_ns = now_ns + int(wait_seconds * SECOND_NS)
        self._failures += 1
        self._events.append(events.Disconnected(status, details, self._failures, wait_seconds))

    def take_events(self) -> list[events.Event]:
        """What happened since the last call."""
        taken, self._events = self._events, []
        dropped = self.buffer.dropped - self._dropped_told
        if dropped:
            self._dropped_told = self.buffer.dropped
            taken.append(events.Dropped(dropped, self.buffer.dropped))
        return taken

    def stats(self) -> Stats:
        """What the client holds and has done."""
        return Stats(
            client_id=self._client_id,
            connected=self._answered,
            live_sessions=self.buffer.live,
            pending_reports=self.buffer.waiting,
            unacknowledged_reports=sum(len(batch.reports) for batch in self._unacked),
            acknowledged_reports=self._acknowledged,
            rejected_reports=self._rejected,
            dropped_reports=self.buffer.dropped,
        )

    def _may_cut(self) -> bool:
        return len(self._unacked) < (1 if self._singly else self._limits.window_batches)

    def _closing(self) -> bytes | None:
        if not self.buffer.closed or self._unacked or self.buffer.waiting:
            return None
        self._closing_sent = True
        return pb.StreamReportsRequest(closing=True, dropped_reports=self.buffer.dropped).SerializeToString()

    def _acknowledge(self, acked: int) -> None:
        while self._unacked and self._unacked[0].number <= acked:
            batch = self._unacked.popleft()
            self._sent = max(0, self._sent - 1)
            self._acknowledged += len(batch.reports)
            self.buffer.accepted(batch.reports, batch.ends)
            self._singly = False
            self._attempts = 0

    def _reject(self, response: pb.StreamReportsResponse) -> None:
        rejections = []
        batches = {batch.number: batch.reports for batch in self._unacked} if response.rejected else {}
        for rejected in response.rejected:
            reports = batches.get(rejected.sequence, [])
            if rejected.index < len(reports):
                report: Report = reports[rejected.index]
                report.rejected = True
                known = pb.RejectionReason.DESCRIPTOR.values_by_number.get(rejected.reason)
                reason = known.name if known else str(rejected.reason)  # a newer daemon may have more reasons
                rejections.append(events.Rejection(UUID(bytes=report.session_id), reason, rejected.message))
        self._rejected += len(rejections)
        if rejections:
            self._events.append(events.Rejected(tuple(rejections)))

    def _refuse(self, batch: Batch, status: str, details: str, now_ns: int) -> None:
        lost = self.buffer.refused(batch.reports, now_ns)
        self._dropped_told += lost
        self._events.append(events.BatchRefused(status, details, len(batch.reports), lost))

    def _replace_client_id(self, status: str, details: str) -> None:
        old, self._client_id = self._client_id, self._new_client_id()
        self._events.append(events.ClientIdReplaced(old, self._client_id, status, details))
        self._last_sent = 0
        for number, batch in enumerate(self._unacked, start=1):
            batch.number = number
        self._next_number = len(self._unacked) + 1

    def _wait_seconds(self, status: str, retry_delay_ms: int | None) -> float:
        slowest = self._limits.retry_slowest_seconds
        if status in FOR_A_PERSON:
            return slowest
        if retry_delay_ms is not None:
            return min(retry_delay_ms / 1000 * self._uniform(1.0, 1.25), slowest)
        most = min(self._limits.backoff_max_seconds, self._limits.backoff_base_seconds * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return self._uniform(0.0, most)

    def _finish(self, *, confirmed: bool) -> None:
        left = self.buffer.waiting + sum(len(batch.reports) for batch in self._unacked)
        self.buffer.dropped += left
        self._dropped_told += left
        self._answered = False
        self.done, self.confirmed = True, confirmed
        self._events.append(events.Closed(confirmed, left))
