"""Whether the wheel can be installed by pip and pipx alike, and the unit runs from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import appstatsd
import pytest

from tests.support.machine import ROOT, Machine
from tests.support.packages import OLD


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(packages / "wheel")], cwd=ROOT, check=True
    )
    [built] = (packages / "wheel").iterdir()
    return built


def test_the_unit_runs_from_an_installed_wheel(host: Machine, wheel: Path) -> None:
    # The interpreter and what the wheel needs are taken from the package, which the index would give on another host.
    host.run("dpkg", "--unpack", f"/media/appstatsd_{OLD}-1_amd64.deb")
    host.run("sh", "-c", "cp -a /usr/lib/appstatsd /opt/appstatsd && dpkg --purge appstatsd")
    site = "/opt/appstatsd/lib/python3.11/site-packages"
    host.run("sh", "-c", f"rm -rf {site}/appstatsd {site}/appstatsd-*")
    host.run("sh", "-c", f"cd {site} && {sys.executable} -m zipfile -e /media/wheel/{wheel.name} .")
    share = f"{site}/appstatsd-{appstatsd.__version__}.data/data/share/appstatsd/systemd"
    host.run(
        "sh",
        "-c",
        "printf '#!/opt/appstatsd/bin/python3 -I\\nfrom appstatsd.cli.main import main\\n"
        "raise SystemExit(main())\\n' >/usr/local/bin/appstatsd && chmod 755 /usr/local/bin/appstatsd",
    )
    # The lines of docs/install.md, but for where the environment is.
    page = (ROOT / "docs/install.md").read_text()
    [lines] = re.findall(r"```sh\ncd /opt/appstatsd/share/appstatsd/systemd\n(.*?)```", page, re.DOTALL)
    host.run("sh", "-ec", f"cd {share}\n" + lines.replace("sudo ", ""))
    assert host.show("appstatsd", "ActiveState") == "active"
    host.run("appstatsd", "status")
