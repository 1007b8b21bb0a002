"""Reports the sessions of a proxy to the appstatsd daemon on its host.

`Client` is for threads, `AsyncClient` for asyncio. What they do is written down in `docs/client-protocol.md`.
"""

from appstatsd_client.aio import AsyncClient
from appstatsd_client.app import AccessMethod, App, UuidLike
from appstatsd_client.client import Client
from appstatsd_client.clock import Clock
from appstatsd_client.core import Stats
from appstatsd_client.limits import Limits
from appstatsd_client.session import Session
from appstatsd_client.transport import Tls

__all__ = ["AccessMethod", "App", "AsyncClient", "Client", "Clock", "Limits", "Session", "Stats", "Tls", "UuidLike"]
