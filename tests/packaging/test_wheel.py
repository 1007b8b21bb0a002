"""Whether the wheel can be installed by pip and pipx alike, and the unit runs from it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import appstatsd
import pytest

from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.machine import ROOT, Machine
from tests.support.packages import OLD

BASE = sys._base_executable  # type: ignore[attr-defined]
"""The Python that this one's environment was made of, which has pip."""


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(packages / "wheel")], cwd=ROOT, check=True
    )
    [built] = (packages / "wheel").iterdir()
    return built


def pip_install(python: Path | str, wheel: str) -> list[str]:
    """The command that installs the wheel. Nothing is downloaded: what it requires has to be there."""
    return [BASE, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", f"{wheel}[systemd]"]


def test_pip_installs_it_into_an_environment_and_the_daemon_runs_from_there(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether what it requires is enough is what matters, so this one's packages stand in for the index's.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    [site] = (tmp_path / "env/lib").glob("python*/site-packages")
    [own] = {Path(path) for path in sys.path if path.endswith("site-packages")}
    for package in own.iterdir():
        if "appstatsd" not in package.name and not package.name.endswith(".pth"):
            (site / package.name).symlink_to(package)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    python = tmp_path / "env/bin/python"
    subprocess.run(pip_install(python, str(wheel)), check=True)
    monkeypatch.setattr(daemon, "COMMAND", tmp_path / "env/bin/appstatsd")
    check_daemon(tmp_path)


@pytest.mark.skipif(shutil.which("pipx") is None, reason="needs pipx")
def test_pipx_installs_it_with_what_it_requires_and_the_daemon_runs_from_there(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pipx looks after an environment of its own, so what the wheel requires comes from the index.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PIPX_HOME", str(tmp_path / "pipx"))
    monkeypatch.setenv("PIPX_BIN_DIR", str(tmp_path / "bin"))
    subprocess.run(["pipx", "install", "--python", BASE, str(wheel)], check=True)
    monkeypatch.setattr(daemon, "COMMAND", tmp_path / "bin/appstatsd")
    check_daemon(tmp_path)


def check_daemon(folder: Path) -> None:
    """The installed command is of this version, and the daemon that it starts serves."""
    said = subprocess.run([daemon.COMMAND, "version"], capture_output=True, text=True, check=True, cwd=folder).stdout
    assert said.split()[-1] == appstatsd.__version__
    process = DaemonProcess(folder, "postgresql://nobody@127.0.0.1:1/none")
    try:
        process.start()
        assert process.status().version == appstatsd.__version__
        assert process.stop() == 0
    finally:
        process.kill()
    assert process.surprises() == []


def test_the_unit_runs_from_an_installed_wheel(host: Machine, wheel: Path) -> None:
    # The interpreter and what the wheel needs are taken from the package, which the index would give on another host.
    host.run("dpkg", "--unpack", f"/media/appstatsd_{OLD}-1_amd64.deb")
    host.run("sh", "-c", "cp -a /usr/lib/appstatsd /opt/appstatsd && dpkg --purge appstatsd")
    host.run("sh", "-c", "rm -rf /opt/appstatsd/lib/python3.11/site-packages/appstatsd* /opt/appstatsd/bin/appstatsd")
    host.run(*pip_install("/opt/appstatsd/bin/python3", f"/media/wheel/{wheel.name}"))
    # The lines of docs/install.md.
    page = (ROOT / "docs/install.md").read_text()
    [link] = re.findall(r"^sudo (ln -s /opt/appstatsd/bin/appstatsd .*)$", page, re.MULTILINE)
    [lines] = re.findall(r"```sh\n(cd /opt/appstatsd/share/appstatsd/systemd\n.*?)```", page, re.DOTALL)
    host.run("sh", "-ec", link + "\n" + lines.replace("sudo ", ""))
    assert host.show("appstatsd", "ActiveState") == "active"
    host.run("appstatsd", "status")
