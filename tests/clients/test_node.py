"""The Node client: its own tests by the language's usual command, and its example proxy with real traffic."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.proxies import check_traffic, check_websocket, running

FOLDER = Path(__file__).parents[2] / "clients/node"
MISSING = [program for program in ("node", "npm") if shutil.which(program) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")


def npm(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, installed from its lock file and built: whoever uses the checkout's own is left alone."""
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    npm(folder, "ci")  # `prepare` checks the types and builds
    return folder


@pytest.fixture
def proxy(package: Path) -> list[str | Path]:
    """The example's command."""
    program = package / "examples/reverse_proxy.js"
    return ["node", program, "--listen", "127.0.0.1:0", "--upstream", "{upstream}", "--appstatsd", "{appstatsd}"]


def test_the_clients_own_tests_pass(package: Path) -> None:
    npm(package, "test")


def test_the_lock_file_names_no_place_to_download_from() -> None:
    assert "resolved" not in (FOLDER / "package-lock.json").read_text()


def test_what_would_be_published_is_the_client_with_its_types_and_nothing_else(package: Path) -> None:
    [packed] = json.loads(npm(package, "pack", "--dry-run", "--json", "--ignore-scripts"))
    names = {file["path"] for file in packed["files"]}
    wanted = {"LICENSE", "README.md", "package.json", "dist/src/index.js", "dist/src/index.d.ts", "src/index.ts"}
    assert wanted <= names
    assert {name.split("/")[0] for name in names} == {"LICENSE", "README.md", "package.json", "dist", "src", "examples"}
    assert {name.split("/")[1] for name in names if name.startswith("dist/")} == {"src"}


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
