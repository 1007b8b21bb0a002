"""How does the event loop wait for what another thread will tell it?"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Told(Generic[_T]):
    """Something that another thread tells, once; made on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.value: asyncio.Future[_T] = self._loop.create_future()
        """What is told, to be waited for."""

    def tell(self, value: _T) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._resolve, value)

    def _resolve(self, value: _T) -> None:
        if not self.value.done():  # whoever waited may be gone
            self.value.set_result(value)


def serialized(message: Any) -> bytes:
    """A message of the protocol as gRPC wants it."""
    data: bytes = message.SerializeToString()
    return data
