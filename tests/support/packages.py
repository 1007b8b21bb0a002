"""How does a test get the packages? Made once a run, as `make deb` makes them, in two versions."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NFPM: Final = Path(sys.executable).with_name("nfpm")
OLD, NEW = "0.1.0", "0.1.1"


def make_packages(base: Path) -> Path:
    """The folder with the packages, however many processes ask for it at the same time."""
    if not NFPM.exists():
        pytest.skip("needs nfpm (make deb installs it)")
    for tool in ("patchelf", "strip", "dpkg"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    folder = base / "packages"
    with (base / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _make(folder)
            (folder / "done").touch()
    return folder


def _make(folder: Path) -> None:
    contents = folder / "build" / "package"
    contents.mkdir(parents=True)
    for name in ("systemd", "packaging", "docs"):
        (folder / name).symlink_to(ROOT / name)
    environment = ROOT / "packaging" / "environment.py"
    subprocess.run([sys.executable, environment, contents / "environment"], check=True, stdout=subprocess.DEVNULL)
    (contents / "appstatsd.8.gz").write_bytes(gzip.compress((ROOT / "packaging" / "appstatsd.8").read_bytes()))
    for version, packager in ((OLD, "deb"), (NEW, "deb"), (OLD, "rpm")):
        subprocess.run(
            [NFPM, "package", "--config", "packaging/nfpm.yaml", "--packager", packager, "--target", "."],
            cwd=folder,
            env={**os.environ, "VERSION": version, "ARCH": "amd64"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    shutil.rmtree(contents / "environment")
