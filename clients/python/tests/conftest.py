"""What the client's tests share: where their helpers are found, and daemons that speak the wire and do as they are told."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scripted_daemon import ScriptedDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    """A running daemon on a unix socket of its own."""
    scripted = ScriptedDaemon(f"unix:{tmp_path}/daemon.sock")
    scripted.start()
    yield scripted
    scripted.stop()
