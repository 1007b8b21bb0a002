"""What are streams told? What the ledger has to say of events, for whoever speaks to clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from appstatsd.collect.batch import Rejection


class EndReason(Enum):
    """Why the daemon ends a stream; the names are those of the gRPC status."""

    OK = "closing was said, and what it ends is as durable as a batch"
    INVALID_ARGUMENT = "the protocol was broken"
    ALREADY_EXISTS = "the client_id is in use twice"
    ABORTED = "a newer stream of this client_id took over"


@dataclass(slots=True)
class Answer:
    """What one stream is told, once the events behind it are durable."""

    greeting: int | None = None
    """The sequence held for the client before its stream opened; None: the stream was open already."""
    acked_sequence: int | None = None
    rejected: list[tuple[int, Rejection]] = field(default_factory=list)
    """With the number of the batch."""
    messages: int = 0
    """How many messages of the stream have been dealt with."""
    end: EndReason | None = None
    detail: str = ""
    """Where the stream is ended: what was wrong and what was expected."""

    def add(self, later: Answer) -> None:
        """Say at once what `later` would say after this."""
        self.acked_sequence = self.acked_sequence if later.acked_sequence is None else later.acked_sequence
        self.rejected += later.rejected
        self.messages += later.messages
        self.end = self.end or later.end
        self.detail = self.detail or later.detail


def add_answers(answers: dict[int, Answer], more: dict[int, Answer]) -> None:
    """Say `more` after `answers`, stream by stream."""
    for stream, answer in more.items():
        known = answers.setdefault(stream, answer)
        if known is not answer:
            known.add(answer)
