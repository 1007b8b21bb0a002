"""How is the daemon reached? Target, credentials and channel settings, the same for both kinds of channel.

Invariant: nothing of gRPC is started before a channel is opened, so a client that has not begun to report survives a fork.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from appstatsd_client.limits import Limits

VERSION: Final = "0.1.0"
METHOD: Final = "/appstats.v1.SessionReportService/StreamReports"
METADATA: Final = (("appstats-client", f"python/{VERSION}"),)
"""Says who speaks."""
RETRY_DELAY: Final = "appstats-retry-delay-ms"
"""Trailing metadata of a stream: when to come back."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Mutual TLS: each is PEM."""

    ca: bytes
    """Certificates that the daemon's is checked against."""
    certificate: bytes
    """The client's own certificate, with its chain."""
    key: bytes
    """The key of it."""

    @classmethod
    def from_files(cls, ca: str | Path, certificate: str | Path, key: str | Path) -> Tls:
        """Reads the three files. Raises `OSError`."""
        return cls(Path(ca).read_bytes(), Path(certificate).read_bytes(), Path(key).read_bytes())


class Transport:
    """Opens channels to one daemon."""

    def __init__(self, target: str, tls: Tls | None, limits: Limits) -> None:
        """Raises `ValueError` where `target` is neither `unix:PATH` nor `HOST:PORT`, or has TLS on a unix socket."""
        is_unix = target.startswith("unix:") and len(target) > len("unix:")
        if not is_unix and not re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:/\[\]]+):\d{1,5}", target):
            raise ValueError(f"target is {target!r}; it has to be unix:PATH or HOST:PORT")
        if is_unix and tls is not None:
            raise ValueError(
                f"target is {target!r}; TLS is for HOST:PORT, the mode of a unix socket says who may connect"
            )
        self._target = target
        self._tls = tls
        self._options = _channel_options(limits)

    def channel(self) -> grpc.Channel:
        """A channel for threads."""
        if self._tls is None:
            return grpc.insecure_channel(self._target, self._options)
        return grpc.secure_channel(self._target, _credentials(self._tls), self._options)

    def aio_channel(self) -> grpc.aio.Channel:
        """A channel for the running loop."""
        if self._tls is None:
            return grpc.aio.insecure_channel(self._target, self._options)
        return grpc.aio.secure_channel(self._target, _credentials(self._tls), self._options)


def retry_delay_ms(trailing: Sequence[tuple[str, str | bytes]] | None) -> int | None:
    """What the daemon said about when to come back; None: nothing that can be read."""
    for key, value in trailing or ():
        if key == RETRY_DELAY and isinstance(value, str) and value.isdecimal():
            return int(value)
    return None


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)


def _channel_options(limits: Limits) -> tuple[tuple[str, int], ...]:
    channel_backoff_ms = int(limits.channel_backoff_max_seconds * 1000)
    ping_timeout_ms = int(limits.keepalive_timeout_seconds * 1000)
    return (
        # The wait between attempts is the client's own; the channel's must not come on top of it.
        ("grpc.initial_reconnect_backoff_ms", min(100, channel_backoff_ms)),
        ("grpc.max_reconnect_backoff_ms", channel_backoff_ms),
        # In spite of its name: how long an attempt may take; 20 s where it is not set.
        ("grpc.min_reconnect_backoff_ms", int(limits.connect_timeout_seconds * 1000)),
        ("grpc.keepalive_time_ms", int(limits.keepalive_time_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", ping_timeout_ms),
        # Without it a frozen daemon is noticed only after about a minute.
        ("grpc.http2.ping_timeout_ms", ping_timeout_ms),
        ("grpc.http2.max_pings_without_data", 0),
        # What is sent again is the client's decision, and a daemon on this host is not behind the proxy of the environment.
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
    )
