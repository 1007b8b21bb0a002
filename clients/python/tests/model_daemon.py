"""What does a daemon make of what clients send? The sequence rules of the wire and the merge of reports, and nothing else.

Invariant: whatever breaks a rule of the wire that no test asked for is an `AssertionError` here, and so fails the test.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb


@dataclass
class Held:
    """What is known of one session."""

    app: tuple[bytes, bytes, bytes, int, str]
    started_ns: int
    ended_ns: int
    requests: int


@dataclass
class KnownClient:
    """What is known of one client_id."""

    last: int
    contents: dict[int, bytes] = field(default_factory=dict)


def rows(columns: pb.SessionReportColumns) -> list[tuple[bytes, Held]]:
    """The reports of a batch, with its lengths checked."""
    count = len(columns.app)
    assert count == len(columns.requests) == len(columns.session_started_at_unix_nano)
    assert count == len(columns.session_ended_at_unix_nano)
    assert 16 * count == len(columns.session_ids)
    held = []
    for i, place in enumerate(columns.app):
        app = columns.apps[place]
        key = (app.user_id, app.workspace_id, app.agent_id, int(app.access_method), app.slug_or_port)
        started, ended = columns.session_started_at_unix_nano[i], columns.session_ended_at_unix_nano[i]
        session_id = columns.session_ids[16 * i : 16 * i + 16]
        held.append((session_id, Held(key, started, ended, columns.requests[i])))
    return held


@dataclass
class ModelDaemon:
    """A daemon without I/O: client ids and sessions."""

    clients: dict[str, KnownClient] = field(default_factory=dict)
    sessions: dict[bytes, Held] = field(default_factory=dict)
    ever: dict[bytes, Held] = field(default_factory=dict)
    """Sessions as they were reported, those included that were forgotten."""
    applied: list[tuple[str, int]] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    dropped: dict[str, int] = field(default_factory=dict)

    def first(self, message: pb.StreamReportsRequest) -> int:
        """The first message of a stream; returns the number held."""
        assert 1 <= len(message.client_id) <= 128
        assert message.sequence == 0
        assert not message.HasField("columns")
        self.dropped[message.client_id] = message.dropped_reports
        known = self.clients.get(message.client_id)
        return known.last if known else 0

    def batch(self, client_id: str, message: pb.StreamReportsRequest) -> int:
        """A batch; returns the number to acknowledge."""
        content = message.columns.SerializeToString(deterministic=True)
        assert message.sequence > 0
        assert not message.closing
        assert not message.reports
        assert 1 <= len(message.columns.app) <= 10_000
        assert len(content) <= 4 << 20
        self.dropped[client_id] = message.dropped_reports
        known = self.clients.setdefault(client_id, KnownClient(message.sequence - 1))
        if message.sequence <= known.last:
            assert known.contents.get(message.sequence) == content, "a number was used again with other content"
            return known.last
        assert message.sequence == known.last + 1, f"gap: {message.sequence} after {known.last}"
        known.last = message.sequence
        known.contents[message.sequence] = content
        self.applied.append((client_id, message.sequence))
        for session_id, new in rows(message.columns):
            for store in (self.sessions, self.ever):
                held = store.setdefault(session_id, Held(new.app, new.started_ns, 0, 0))
                assert (held.app, held.started_ns) == (new.app, new.started_ns)
                held.ended_ns = max(held.ended_ns, new.ended_ns)
                held.requests = max(held.requests, new.requests)
        return known.last

    def close(self, client_id: str, message: pb.StreamReportsRequest) -> None:
        """The last word of a client."""
        assert message.closing
        assert message.sequence == 0
        assert not message.HasField("columns")
        self.dropped[client_id] = message.dropped_reports
        self.closed.add(client_id)

    def forget(self) -> None:
        """A daemon without a journal was started again."""
        self.clients.clear()
        self.sessions.clear()
