"""How is somebody told who has an HTTP address? By one POST with all workspaces that were used."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Sequence
from typing import Final

from appstatsd import __version__
from appstatsd.activity.notices import Notice, NotTold
from appstatsd.http_url import HttpUrl

_SECONDS: Final = 5.0


class HttpHook:
    """Tells by POST: `{"workspaces": [{"workspace_id": ..., "last_used_at": ...}, ...]}`."""

    def __init__(self, url: HttpUrl, seconds: float = _SECONDS) -> None:
        """`seconds`: how long whoever is told may keep silent."""
        self._url = url
        self._seconds = seconds

    def __call__(self, notices: Sequence[Notice]) -> None:
        """Tell of these; any answer of class 2xx will do.

        Raises:
            NotTold: nobody took it.
        """
        url = self._url
        body = json.dumps({"workspaces": [notice.as_json() for notice in notices]}).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"appstatsd/{__version__}"}
        with contextlib.closing(self._connection()) as connection:
            try:
                connection.request("POST", url.target, body, headers)
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                raise NotTold(f"{url.origin} took no notice: {str(error) or type(error).__name__}") from error
        if not 200 <= status < 300:
            raise NotTold(f"{url.origin} answered with status {status}, expected is one of class 2xx")

    def _connection(self) -> http.client.HTTPConnection:
        if not self._url.secure:
            return http.client.HTTPConnection(self._url.host, self._url.port, timeout=self._seconds)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(self._url.host, self._url.port, timeout=self._seconds, context=context)
