"""Where does the daemon listen: what a listening address says, and how gRPC and people write it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

MAX_SOCKET_PATH_BYTES: Final = 107
"""What the kernel takes (`sun_path`), less the final NUL."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket."""

    path: Path

    @staticmethod
    def parse(text: str) -> UnixAddress:
        """From `unix:PATH`.

        Raises:
            ValueError: it is not of that form, or the path is too long.
        """
        path = text.removeprefix("unix:")
        if path == text or not path or "\0" in path:
            raise ValueError
        length = len(str(Path(path)).encode())
        if length > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"its path has {length} bytes")
        return UnixAddress(Path(path))

    @property
    def target(self) -> str:
        """As gRPC writes it, which takes the path for a part of a URI."""
        return f"unix:{quote(str(self.path))}"

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP host and port."""

    host: str
    """A name or an IP address; an IPv6 one without brackets."""
    port: int
    """0: any that is free."""

    @staticmethod
    def parse(text: str) -> TcpAddress:
        """From `HOST:PORT`, where an IPv6 address stands in brackets.

        Raises:
            ValueError: it is not of that form.
        """
        match = re.fullmatch(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", text)
        if match is None:
            raise ValueError("a host is expected; 0.0.0.0 is all of them" if text.startswith(":") else "")
        if match["ipv6"]:
            ipaddress.IPv6Address(match["ipv6"])
        port = int(match["port"])
        if port > 65_535:
            raise ValueError("the highest port is 65535")
        return TcpAddress(match["ipv6"] or match["host"], port)

    @property
    def loopback(self) -> bool:
        """Whether only this host can connect. A name other than `localhost` counts as reachable by others."""
        address = self._ip
        return self.host == "localhost" if address is None else address.is_loopback

    @property
    def reached_at(self) -> TcpAddress:
        """Where a client on this host finds what listens here: an address that stands for all of them is no target."""
        if self._ip is not None and self._ip.is_unspecified:
            return TcpAddress("127.0.0.1" if self._ip.version == 4 else "::1", self.port)
        return self

    @property
    def target(self) -> str:
        """As gRPC writes it."""
        return str(self)

    @property
    def _ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address: TypeAlias = UnixAddress | TcpAddress
