"""The Rust client: its own tests and lints by the language's usual commands, the lines of its README, and its example."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.proxies import check_traffic, check_websocket, running

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clients/rust"
BUILD_SECONDS = 1200

pytestmark = [
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo"),
    pytest.mark.timeout(2 * BUILD_SECONDS),
    pytest.mark.xdist_group("rust"),
]


def cargo(*arguments: str, **environment: str) -> None:
    """One build at a time: what conformance builds is in the same folder."""
    (ROOT / "build").mkdir(exist_ok=True)
    own = {**os.environ, **environment, "CARGO_TARGET_DIR": str(FOLDER / "target")}
    with (ROOT / "build/conformance.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(
            ["cargo", *arguments], cwd=FOLDER, env=own, capture_output=True, text=True, timeout=BUILD_SECONDS
        )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def proxy() -> list[str | Path]:
    """The example's command, built."""
    cargo("build", "--locked", "--example", "reverse_proxy")
    return [FOLDER / "target/debug/examples/reverse_proxy", "127.0.0.1:0", "{upstream}", "{appstatsd}"]


def test_the_clients_own_tests_pass() -> None:
    cargo("test", "--locked", "--lib", "--examples")


def test_the_code_is_formatted_and_clippy_finds_nothing() -> None:
    cargo("fmt", "--all", "--check")
    cargo("clippy", "--locked", "--all-targets", "--", "--deny", "warnings")


def test_the_lines_of_the_readme_report_a_session(proxy: list[str | Path], tmp_path: Path, postgres_url: str) -> None:
    with running(tmp_path, postgres_url, proxy) as site:
        cargo("test", "--locked", "--doc", APPSTATSD=site.daemon.target)
        assert site.rows() == [("subdomain", "code", "reported", 1, 2)]


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
