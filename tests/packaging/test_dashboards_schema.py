"""Whether the dashboards are of the form that a current Grafana's own types of one describe (`@grafana/schema`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.machine import ROOT

DASHBOARDS = sorted((ROOT / "docs/grafana").glob("*.json"))


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which types can be checked."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("grafana") / "check"
    shutil.copytree(ROOT / "tests/packaging/grafana", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder


def complaints(checker: Path, dashboard: str) -> str:
    module = (
        f'import type {{ PlainDashboard }} from "./plain";\nexport const dashboard: PlainDashboard = {dashboard};\n'
    )
    (checker / "dashboard.ts").write_text(module)
    return subprocess.run(["node_modules/.bin/tsc", "-p", "."], cwd=checker, capture_output=True, text=True).stdout


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_of_grafanas_form(checker: Path, dashboard: Path) -> None:
    assert complaints(checker, dashboard.read_text()) == ""


def test_a_field_that_grafana_does_not_know_would_be_noticed(checker: Path) -> None:
    assert "'\"schemaVersio\"' does not exist" in complaints(checker, '{ "schemaVersio": 39 }')
