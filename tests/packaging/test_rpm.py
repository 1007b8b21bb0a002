"""What the RPM holds, and that it installs: into a folder of the test's, since no host of that kind is to be had."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.packages import OLD

CONFIG = "/etc/appstatsd/appstatsd.toml"
UNIT = "/usr/lib/systemd/system/appstatsd.service"


@pytest.fixture(scope="module")
def package(packages: Path) -> Path:
    [rpm] = packages.glob("*.rpm")
    return rpm


def rpm(*arguments: str | Path) -> str:
    return subprocess.run(["rpm", *arguments], capture_output=True, text=True, check=True).stdout


def test_it_has_the_files_of_the_debian_package(package: Path, packages: Path) -> None:
    deb = packages / f"appstatsd_{OLD}-1_amd64.deb"
    listed = subprocess.run(["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True).stdout
    # Mode, owner, size, day, minute, path, and where a link leads.
    of_deb = {line.split()[5].lstrip(".") for line in listed.splitlines() if not line.startswith("d")}
    of_rpm = set(rpm("-qpl", package).split("\n"))
    assert {"/usr/bin/appstatsd", CONFIG, UNIT} <= of_deb
    # Debian's tools add the list of changes that their policy asks for.
    assert {path for path in of_deb - of_rpm if "changelog" not in path} == set()
    assert rpm("-qpc", package).split() == [CONFIG]


def test_its_scripts_make_the_group_and_restart_only_what_runs(package: Path, tmp_path: Path) -> None:
    scripts = rpm("-qp", "--scripts", package)
    for line in ("systemd-sysusers appstatsd.conf", "systemd-tmpfiles --create appstatsd.conf", "preset"):
        assert line in scripts
    assert "try-restart appstatsd.service" in scripts
    for name in ("postin", "preun", "postun"):
        body = rpm("-qp", "--queryformat", f"%{{{name}}}", package)
        (tmp_path / name).write_text(body)
        subprocess.run(["sh", "-n", tmp_path / name], check=True)
        assert body.strip() not in ("", "(none)")


def test_it_installs_runs_and_goes_again(package: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    here = (f"--root={root}", "--nodeps", "--noscripts")
    rpm("--install", *here, package)
    python = root / "usr/lib/appstatsd/bin/python3"
    said = subprocess.run([python, "-I", "-m", "appstatsd", "version"], capture_output=True, text=True, check=True)
    assert said.stdout.split()[-1] == OLD
    rpm("--verify", *here, "appstatsd")
    (root / CONFIG[1:]).write_text('report-interval = "10s"\n')
    rpm("--erase", *here, "appstatsd")
    kept = {str(path.relative_to(root)) for path in (root / "etc").rglob("*") if path.is_file()}
    assert kept == {f"{CONFIG[1:]}.rpmsave"}
    assert not (root / "usr/lib/appstatsd").exists()
