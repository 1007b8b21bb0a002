"""Which message may come next from a client? The sequence rules of SPEC section 1.

Invariant: a batch is applied once. One that was applied before is known by its number, and by its content that it is the
same one.
"""

from __future__ import annotations

from appstatsd.collect.clients import Client
from appstatsd.decode import Request
from appstatsd.errors import BrokenMessage


class UsedTwice(BrokenMessage):
    """A number was used before, with other content: two processes have one client_id."""


def is_next(client: Client, request: Request) -> bool:
    """Whether the message brings a batch that is not applied yet.

    Raises:
        BrokenMessage: the message must not come now.
        UsedTwice: its number was used before, with other content.
    """
    if request.client_id and request.client_id != client.client_id:
        raise BrokenMessage(
            f"client_id changed to {request.client_id!r}; expected {client.client_id!r} or none on this stream"
        )
    sequence, applied = request.sequence, client.applied_sequence
    if request.batch is None:
        if sequence:
            raise BrokenMessage(f"batch {sequence} is empty; expected 1 to 10000 reports, or sequence 0 with none")
        if not request.closing:
            raise BrokenMessage("a message without a batch; only the first of a stream and a closing one may be so")
        return False
    if not sequence:
        raise BrokenMessage("the batch has sequence 0; expected numbers from 1")
    if sequence <= applied:
        if not client.is_same(sequence, request.digest):
            raise UsedTwice(
                f"batch {sequence} of client_id {client.client_id!r} was applied with other content, or too long ago "
                f"to tell (the last is {applied}); the client_id is in use twice, make it of random bits at each start"
            )
        return False
    if applied and sequence != applied + 1 and not client.lost_batches:
        raise BrokenMessage(f"batch {sequence} leaves a gap; expected {applied + 1}")
    return True
