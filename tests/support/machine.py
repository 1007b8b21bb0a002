"""How does a test get a host of its own? systemd, booted in namespaces on a copy-on-write view of this one's files.

See `boot.sh`, which says what keeps this host out of reach. What the machine writes lies in a folder of the test's, and is
there again after a shutdown and another boot.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.support.daemon import PATIENCE_SECONDS, eventually

ROOT: Final = Path(__file__).parents[2]
SYSTEMD: Final = Path("/lib/systemd/systemd")
BOOT: Final = ROOT / "tests" / "systemd" / "boot.sh"
PYTHON: Final = sys.executable
"""The test's own Python, with the client library, as it is found inside too."""
_CGROUPS: Final = "appstatsd-test-"


def needed() -> None:
    """Skip where no machine can be booted."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make namespaces")
    if not SYSTEMD.exists():
        pytest.skip("needs systemd (the package systemd)")
    kinds = Path("/proc/filesystems").read_text().split()
    for kind in ("overlay", "cgroup2"):
        if kind not in kinds:
            pytest.skip(f"needs a kernel with {kind}")


class Machine:
    """One host."""

    def __init__(self, folder: Path, media: Path) -> None:
        """`media` is a folder of this host that it may read, as /media."""
        self.folder = folder
        self.folder.mkdir()
        (folder / "media").symlink_to(media)
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Start it, and wait until its basic services run."""
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["sh", str(BOOT), str(self.folder)], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        eventually(self._booted, bool)

    def _booted(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "console").read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        try:
            [init] = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "systemd\n"]
        except (OSError, ValueError):  # what there was has ended meanwhile, or it is not that far
            return False
        self._init = int(init)
        return self.try_to("systemctl", "is-active", "test.target").stdout == "active\n"

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command as root; what it prints. It must end well."""
        done = self.try_to(*command, text=text)
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_to(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as root."""
        return subprocess.run(
            [*self.inside(), *command], input=text or "", capture_output=True, text=True, timeout=PATIENCE_SECONDS * 4
        )

    def inside(self) -> list[str]:
        """What to put before a command, for it to run inside."""
        places = f"/usr/local/bin:{os.defpath}:/usr/sbin:/sbin"
        environment = [f"PATH={places}", f"PYTHONPATH={ROOT}/clients/python:{ROOT}/daemon:{ROOT}"]
        enter = ["nsenter", "--target", str(self._init), "--all", "--root", "--wd"]
        return [*enter, "env", "-i", "LC_ALL=C.UTF-8", *environment]

    def write(self, path: str, text: str) -> None:
        """Write a file; its folder is made where it is missing."""
        self.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat >{path}", text=text)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def journal(self, *arguments: str) -> str:
        """What is in the journal."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "--output=cat", *arguments)

    def shut_down(self) -> None:
        """As an operator would; returns when it is off."""
        assert self._process is not None
        self.try_to("systemctl", "poweroff")
        self._process.wait(PATIENCE_SECONDS * 2)
        self._off()

    def remove(self) -> None:
        """Switch it off at once, and remove all that it left."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._init or self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)
            self._off()
        shutil.rmtree(self.folder)

    def _off(self) -> None:
        """Remove its cgroups, once the kernel has let the last of its processes go."""
        self._process = None
        if not (self.folder / "cgroup-name").exists():
            return
        mounted = self.folder / "cgroups"
        mounted.mkdir()
        name = (self.folder / "cgroup-name").read_text().strip()
        assert name.startswith(_CGROUPS)
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(mounted)], check=True)
        try:
            eventually(lambda: _remove_cgroups(mounted / name), bool)
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
        mounted.rmdir()


def _remove_cgroups(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not top.exists()
