"""What the Debian package does when it is installed, upgraded, removed and purged, on a host of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.daemon import eventually
from tests.support.machine import Machine
from tests.support.packages import NEW, OLD

CONFIG = "/etc/appstatsd/appstatsd.toml"
STATES = ("/var/lib/private/appstatsd", "/var/lib/private/appstatsd-postgres")


def deb(version: str) -> str:
    return f"/media/appstatsd_{version}-1_amd64.deb"


def there(host: Machine, path: str) -> bool:
    return host.try_to("test", "-e", path).returncode == 0


def test_installed_upgraded_removed_and_purged(host: Machine) -> None:
    """One story, since each step begins where the one before has ended."""
    # Installed: it runs at once, with a database of its own, and writes rows.
    host.run("dpkg", "--install", deb(OLD))
    assert host.show("appstatsd", "ActiveState") == "active"
    assert host.run("appstatsd", "version").split()[-1] == OLD
    eventually(lambda: host.try_to("appstatsd", "flush").returncode, lambda status: status == 0)
    assert host.run("stat", "--format=%a %U", "/etc/appstatsd/database-url").split() == ["600", "root"]
    assert "session statistics" in host.run("man", "--pager=cat", "appstatsd")
    # Its environment is its own: what the system has as Python does not matter.
    host.run("sh", "-c", "mv /usr/bin/python3.11 /usr/bin/python3.11.gone || true")
    host.run("systemctl", "restart", "appstatsd")
    host.run("sh", "-c", "mv /usr/bin/python3.11.gone /usr/bin/python3.11 || true")

    # Upgraded: a changed config and changed modes stay, and what runs runs anew.
    host.write(CONFIG, 'report-interval = "10s"\n')
    host.run("chmod", "604", CONFIG)
    host.run("chmod", "640", "/etc/appstatsd/database-url")
    host.run("chmod", "711", "/etc/appstatsd")
    pid = host.show("appstatsd", "MainPID")
    host.run("dpkg", "--install", "--force-confdef", "--force-confold", deb(NEW))
    assert host.run("cat", CONFIG) == 'report-interval = "10s"\n'
    modes = host.run("stat", "--format=%a", CONFIG, "/etc/appstatsd/database-url", "/etc/appstatsd").split()
    assert modes == ["604", "640", "711"]
    assert host.show("appstatsd", "ActiveState") == "active"
    assert host.show("appstatsd", "MainPID") != pid

    # What was stopped stays so.
    host.run("systemctl", "stop", "appstatsd")
    host.run("dpkg", "--install", deb(OLD))
    assert host.show("appstatsd", "ActiveState") == "inactive"
    host.run("systemctl", "start", "appstatsd")

    # Removed: it is gone, what it knew is not; installed again, it goes on.
    host.run("dpkg", "--remove", "appstatsd")
    assert host.try_to("pgrep", "-f", "appstatsd/bin/python3.11").stdout == ""
    assert [there(host, path) for path in (*STATES, CONFIG, "/usr/lib/appstatsd")] == [True, True, True, False]
    host.run("dpkg", "--install", deb(OLD))
    assert host.show("appstatsd", "ActiveState") == "active"

    # Purged: nothing is left.
    host.run("dpkg", "--purge", "appstatsd")
    assert [path for path in (*STATES, "/etc/appstatsd", "/run/appstatsd") if there(host, path)] == []
    assert host.run("find", "/etc/systemd", "-name", "appstatsd*") == ""


def test_it_names_all_shared_libraries_that_it_needs(packages: Path) -> None:
    named = subprocess.run(
        ["dpkg-deb", "--field", packages / f"appstatsd_{OLD}-1_amd64.deb", "Depends"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    of_package = {"libffi.so.8": "libffi8", "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3"}
    of_package |= {"libuuid.so.1": "libuuid1", "libz.so.1": "zlib1g", "libgcc_s.so.1": "libgcc-s1"}
    of_package |= {"libstdc++.so.6": "libstdc++6"}
    of_libc = (
        "libc.so.6",
        "libm.so.6",
        "libdl.so.2",
        "libpthread.so.0",
        "librt.so.1",
        "libresolv.so.2",
        "libutil.so.1",
    )
    needed = (packages / "build/package/environment.depends").read_text().split()
    for library in needed:
        package = "libc6" if library in of_libc or library.startswith("ld-linux") else of_package[library]
        assert package in named
