"""The Go client: its own tests by the language's usual command, and its example proxy with real traffic."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.proxies import check_traffic, check_websocket, running

FOLDER = Path(__file__).parents[2] / "clients/go"

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="needs go")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The example's command, built."""
    program = tmp_path_factory.mktemp("go") / "reverseproxy"
    go("build", "-o", str(program), "./examples/reverseproxy")
    return [program, "-listen", "127.0.0.1:0", "-upstream", "{upstream}", "-appstatsd", "{appstatsd}"]


def go(*arguments: str) -> None:
    done = subprocess.run(["go", *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_clients_own_tests_pass() -> None:
    go("vet", "./...")
    go("test", "./...")


def test_the_traffic_through_the_example_proxy_adds_up_in_the_table(
    proxy: list[str | Path], tmp_path: Path, postgres_url: str
) -> None:
    with running(tmp_path, postgres_url, proxy) as site:
        check_traffic(site)


def test_a_websocket_is_in_use_while_it_is_open_and_ends_with_its_browser_or_its_proxy(
    proxy: list[str | Path], tmp_path: Path, postgres_url: str
) -> None:
    with running(tmp_path, postgres_url, proxy) as site:
        check_websocket(site)
