"""How does a package come to an environment that no update of the system's Python can break?

It brings its own: this makes a folder with a copy of the interpreter that runs it, of the standard library as far as a
daemon needs it, and of the distributions that the daemon needs, just as they are installed here under the lock. Nothing is
downloaded. Invariant: the folder works wherever it is moved, and needs of a system the listed shared libraries alone.

    python packaging/environment.py FOLDER    (also writes FOLDER.depends: names of shared libraries, a line each)
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LEFT_OUT = {
    *("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "site-packages", "__pycache__"),
    *("distutils", "venv", "sqlite3", "dbm", "curses", "unittest", "tests", "turtle.py"),
}
_LEFT_OUT_MODULES = re.compile(
    r"(_tkinter|_curses|_curses_panel|readline|_dbm|_gdbm|_sqlite3|nis|_bz2|_lzma|_crypt|ossaudiodev|_xx.*|xx.*|_test.*"
    r"|_ctypes_test)\."
)


def make(folder: Path) -> None:
    """Fill the folder, which must not be there."""
    library = folder / "lib" / _VERSION
    _copy_interpreter(folder, library)
    site = library / "site-packages"
    site.mkdir()
    for name in _needed():
        _copy_distribution(metadata.distribution(name), site)
    with tempfile.TemporaryDirectory() as built:
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built], cwd=ROOT, check=True)
        [wheel] = Path(built).iterdir()
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site, [name for name in archive.namelist() if ".data/" not in name])
    command = folder / "bin" / "appstatsd"
    command.write_text(
        f"#!/usr/lib/appstatsd/bin/{_VERSION} -I\n"
        "import sys\n\nfrom appstatsd.cli.main import main\n\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    # Compiled once and for all: nobody writes below /usr when the daemon runs.
    compileall.compile_dir(
        folder / "lib",
        quiet=2,
        stripdir=str(folder),
        prependdir="/usr/lib/appstatsd",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    folder.chmod(0o755)


def needed_libraries(folder: Path) -> list[str]:
    """The shared libraries that the folder needs of the system."""
    own = {path.name for path in folder.rglob("*.so*")}
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.open("rb").read(4) == b"\x7fELF":
            said = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
            found.update(re.findall(r"\(NEEDED\).*\[(.*)\]", said))
    return sorted(found - own)


def _copy_interpreter(folder: Path, library: Path) -> None:
    base = Path(sys.base_prefix)
    (folder / "bin").mkdir(parents=True)
    interpreter = folder / "bin" / _VERSION
    shutil.copyfile(base / "bin" / _VERSION, interpreter)
    interpreter.chmod(0o755)
    (folder / "bin" / "python3").symlink_to(_VERSION)
    shutil.copytree(base / "lib" / _VERSION, library, ignore=_left_out)
    for shared in (base / "lib").glob("libpython*.so.*"):
        target = folder / "lib" / shared.name
        shutil.copyfile(shared, target)
        subprocess.run(["strip", "--strip-unneeded", target], check=True)
        subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", interpreter], check=True)


def _left_out(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in _LEFT_OUT or _LEFT_OUT_MODULES.match(name) or name.startswith("config-")}


def _needed() -> list[str]:
    """The distributions that the daemon needs, with systemd's, and all that they need; not the daemon itself."""
    found: set[str] = set()
    waiting = [Requirement("appstatsd[systemd]")]
    while waiting:
        wanted = waiting.pop()
        if wanted.name in found and not wanted.extras:
            continue
        found.add(wanted.name)
        for text in metadata.requires(wanted.name) or ():
            part = Requirement(text)
            if part.marker is None or any(part.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                waiting.append(part)
    return sorted({name.lower() for name in found} - {"appstatsd"})


def _copy_distribution(distribution: metadata.Distribution, site: Path) -> None:
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts or file.name in ("RECORD", "INSTALLER", "direct_url.json"):
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), target)


if __name__ == "__main__":
    to = Path(sys.argv[1])
    make(to)
    Path(f"{to}.depends").write_text("".join(f"{name}\n" for name in needed_libraries(to)))
