"""How does a test run Envoy for real? Its binary with the configuration of the docs, but for addresses and intervals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

import envoy

from tests.support.daemon import PATIENCE_SECONDS, eventually

BINARY: Final = Path(envoy.__path__[0]) / "_bin" / "envoy"
DOCS: Final = Path(__file__).parents[2] / "docs" / "envoy"
_ADMIN: Final = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}"
_HURRY: Final = {
    "access_log_flush_interval: 60s": "access_log_flush_interval: 0.5s",
    "buffer_flush_interval: 1s": "buffer_flush_interval: 0.1s",
}


def configuration(name: str, http_port: int, tcp_port: int, daemon: Path, listen: tuple[int, int] = (0, 0)) -> str:
    """A file of the docs, with its addresses and intervals replaced: servers behind it, the daemon, its own ports."""
    text = (DOCS / name).read_text()
    addresses = {
        "port_value: 8080": f"port_value: {listen[0]}",
        "port_value: 2222": f"port_value: {listen[1]}",
        "port_value: 3000": f"port_value: {http_port}",
        "port_value: 22}": f"port_value: {tcp_port}}}",
        "/run/appstatsd/appstatsd.sock": str(daemon),
    }
    for old, new in {**addresses, **_HURRY}.items():
        assert old in text, f"{old!r} is not in docs/envoy/{name}"
        text = text.replace(old, new)
    return text


def free_port() -> int:
    """A TCP port that nobody has at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Envoy:
    """One Envoy process, from `start` to `kill`; ports of its listeners are known by their names."""

    def __init__(self, folder: Path, text: str, *flags: str) -> None:
        self._folder = folder
        self._config = folder / "envoy.yaml"
        self._config.write_text(text)
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self.ports: dict[str, int] = {}

    def start(self) -> None:
        """Start it, and wait until its listeners take connections."""
        assert self._process is None, "Envoy runs already"
        self.admin_path = self._folder / "admin"
        self.admin_path.unlink(missing_ok=True)
        with (self._folder / "envoy.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(BINARY),
                    "--config-path",
                    str(self._config),
                    "--config-yaml",
                    _ADMIN,
                    "--admin-address-path",
                    str(self.admin_path),
                    "--log-level",
                    "warning",
                    *(self._flags or ("--disable-hot-restart",)),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        eventually(self._is_ready, bool)
        listeners = self._ask("/listeners?format=json")["listener_statuses"]
        self.ports = {
            listener["name"]: listener["local_address"]["socket_address"]["port_value"] for listener in listeners
        }

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "envoy.log").read_text()
        try:
            state: str = self._ask("/server_info")["state"]
        except OSError:
            return False
        return state == "LIVE"

    def _ask(self, path: str) -> Any:
        address = self.admin_path.read_text().strip()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE_SECONDS)
        self._process = None

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        assert self._process is not None
        self._process.wait(PATIENCE_SECONDS)
        self._process = None

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None


class HotRestarts:
    """What Envoys of one host have in common that take over from one another."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "base-id"

    def flags(self, epoch: int) -> tuple[str, ...]:
        """The flags of the process that is the first, the second, …"""
        if epoch == 0:
            return ("--use-dynamic-base-id", "--base-id-path", str(self._path), "--restart-epoch", "0")
        return ("--base-id", self._path.read_text().strip(), "--restart-epoch", str(epoch))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Envoy leaves its shared memory behind.
        if self._path.exists():
            number = int(self._path.read_text())
            for left in Path("/dev/shm").glob(f"envoy_shared_memory_{number}*"):
                left.unlink()
