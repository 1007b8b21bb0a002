"""How does a test speak HTTP/2 as no library would? Frame by frame, over a socket of its own, and as slowly as it likes."""

from __future__ import annotations

import socket
from typing import Self

from tests.support.raw_client import STREAM

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4
_HEADER_LIST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", STREAM),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(initial_window: int | None = None) -> bytes:
    """The first frame of a side; `initial_window` is how many bytes of each stream the other side may send unasked."""
    return frame(_SETTINGS, b"" if initial_window is None else b"\0\4" + initial_window.to_bytes(4, "big"))


def headers(stream: int) -> bytes:
    """Opens a stream of reports."""
    spelled = [text.encode() for pair in _HEADER_LIST for text in pair]
    block = b"".join(b"\0" * (not place % 2) + bytes([len(text)]) + text for place, text in enumerate(spelled))
    return frame(_HEADERS, block, flags=_END_HEADERS, stream=stream)


def message(stream: int, content: bytes, announced: int | None = None) -> bytes:
    """A message in one frame, or the begin of one that is announced to be longer."""
    length = len(content) if announced is None else announced
    return frame(_DATA, b"\0" + length.to_bytes(4, "big") + content, stream=stream)


class Connection:
    """A connection to a unix socket that answers nothing, not even pings."""

    def __init__(self, path: str, said: bytes = b"") -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.send(said)

    def send(self, said: bytes) -> bool:
        """Whether the other side is still there to take it."""
        try:
            self.socket.sendall(said)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def ended(self) -> bool:
        """Whether the other side has cut it; what came before is thrown away."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(1 << 16):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.socket.setblocking(True)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
