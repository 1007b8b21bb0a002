"""How the daemon is as a service of a real systemd (docs/install.md, docs/runbook.md)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import eventually
from tests.support.machine import PYTHON, ROOT
from tests.systemd.host import PASSWORD, SOCKET, Host, Proxy

UNIT = ROOT / "systemd" / "appstatsd.service"
DROP_IN = "/etc/systemd/system/appstatsd.service.d/test.conf"
CONNECT = f"import socket; socket.socket(socket.AF_UNIX).connect('{SOCKET}')"
GAP = f"""
import socket, sys, time
print("measuring", flush=True)
gone_since = None
while True:
    now = time.monotonic()
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect("{SOCKET}")
        if gone_since is not None:
            print(now - gone_since, flush=True)
            sys.exit()
    except OSError:
        gone_since = gone_since or now
    time.sleep(0.005)
"""
# Work such as a start is, and by how much what else runs makes it longer.
SLOWDOWN = """
import time
began = time.monotonic()
while time.process_time() < 0.7:
    pass
print((time.monotonic() - began) / 0.7)
"""


@pytest.fixture
def drop_in(host: Host) -> Iterator[Callable[[str], None]]:
    """Change the unit for one test."""

    def change(text: str) -> None:
        host.write(DROP_IN, text)
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "appstatsd")

    yield change
    host.run("rm", "-f", DROP_IN)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "appstatsd")


def test_it_is_confined_as_far_as_can_be() -> None:
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(UNIT)],
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_systemd_finds_no_fault_with_the_unit(host: Host) -> None:
    done = host.try_to("systemd-analyze", "verify", "appstatsd.service")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_is_active_only_once_streams_are_accepted(host: Host) -> None:
    for _ in range(3):
        host.run("systemctl", "restart", "appstatsd")
        host.run(PYTHON, "-c", CONNECT)
    said = [json.loads(line) for line in host.machine.journal("--output=json", "-u", "appstatsd").splitlines()]
    order = [entry["MESSAGE"] for entry in said if str(entry["MESSAGE"]).startswith(("Ready ", "Started "))]
    assert order[-2][:6] == "Ready "
    assert order[-1][:8] == "Started "


def test_its_status_line_has_live_figures(host: Host, drop_in: Callable[[str], None]) -> None:
    drop_in("[Service]\nWatchdogSec=3s\n")
    with Proxy(host) as proxy:
        proxy.session()
        eventually(
            lambda: host.show("StatusText"), lambda text: text.startswith("1 streams, 1 sessions") and "up" in text
        )


def test_members_of_the_clients_group_connect_and_nobody_else(host: Host) -> None:
    member = subprocess.run([*host.as_user("appstatsd-clients"), PYTHON, "-c", CONNECT], capture_output=True, text=True)
    assert member.returncode == 0, member.stderr
    other = subprocess.run([*host.as_user(), PYTHON, "-c", CONNECT], capture_output=True, text=True)
    assert other.stderr.splitlines()[-1] == "PermissionError: [Errno 13] Permission denied"


def test_after_a_kill_it_is_back_and_no_report_is_lost(host: Host) -> None:
    with Proxy(host) as proxy:
        sessions = [proxy.session() for _ in range(20)]
        restarts = int(host.show("NRestarts"))
        host.run("systemctl", "kill", "--signal=SIGKILL", "--kill-who=main", "appstatsd")
        sessions += [proxy.session() for _ in range(20)]
        eventually(lambda: int(host.show("NRestarts")), lambda count: count > restarts)
        host.active()
        sessions += [proxy.session() for _ in range(20)]
        assert proxy.close()
    host.run("appstatsd", "flush")
    assert set(sessions) <= set(host.rows())


def test_a_hang_trips_the_watchdog(host: Host, drop_in: Callable[[str], None]) -> None:
    drop_in("[Service]\nWatchdogSec=2s\n")
    pid, restarts = host.show("MainPID"), int(host.show("NRestarts"))
    host.run("kill", "-STOP", pid)
    eventually(lambda: int(host.show("NRestarts")), lambda count: count > restarts)
    host.active()
    assert host.show("MainPID") != pid
    assert "Watchdog timeout" in host.machine.journal("-u", "appstatsd")


def test_a_reload_changes_the_log_level_and_names_what_needs_a_restart(host: Host) -> None:
    before = host.run("cat", "/etc/appstatsd/appstatsd.toml")
    host.write("/etc/appstatsd/appstatsd.toml", 'log-level = "debug"\nreport-interval = "20s"\n')
    host.run("systemctl", "reload", "appstatsd")

    def said() -> list[str]:
        found = host.machine.journal("--output=json", "-u", "appstatsd", "APPSTATSD_EVENT=Reloaded").splitlines()
        return [json.loads(line)["MESSAGE"] for line in found]

    eventually(said, bool)
    assert said() == ['Reloaded in_force=["log-level"] needs_restart=["report-interval"]']
    eventually(lambda: host.show("ActiveState"), lambda state: state == "active")
    host.write("/etc/appstatsd/appstatsd.toml", before)
    host.run("systemctl", "restart", "appstatsd")


def test_a_stop_writes_what_is_left_within_its_time(host: Host) -> None:
    with Proxy(host) as proxy:
        session = proxy.session()
        host.run("sh", "-c", "until appstatsd status --json | grep -q '\"connected_streams\": *1'; do :; done")
        host.run("systemctl", "stop", "appstatsd")
        assert (host.show("Result"), host.show("ActiveState")) == ("success", "inactive")
        assert session in host.rows()
        assert host.try_to("test", "-d", "/run/appstatsd").returncode == 0
    host.run("systemctl", "start", "appstatsd")


def restart_seconds(host: Host) -> float:
    """How long nobody could connect while the daemon was restarted, had the machine had nothing else to do."""
    with subprocess.Popen([*host.machine.inside(), PYTHON, "-c", GAP], stdout=subprocess.PIPE, text=True) as measuring:
        assert measuring.stdout is not None
        assert measuring.stdout.readline() == "measuring\n"
        host.run("systemctl", "restart", "appstatsd")
        seconds = float(measuring.stdout.readline())
    return seconds / max(1.0, float(host.run(PYTHON, "-c", SLOWDOWN)))


def test_a_restart_without_a_database_takes_the_socket_away_for_a_second_at_most(host: Host) -> None:
    host.run("systemctl", "stop", "postgresql")
    try:
        with Proxy(host) as proxy:
            session = proxy.session()
            measured: list[float] = []
            while len(measured) < 5 and min(measured, default=2) > 1:
                measured.append(restart_seconds(host))
            assert proxy.close()
    finally:
        host.run("systemctl", "start", "postgresql")
    assert min(measured) <= 1.0, measured
    eventually(lambda: host.try_to("appstatsd", "flush").returncode, lambda status: status == 0)
    assert session in host.rows()


def test_a_wrong_setting_is_said_once_and_not_tried_again(host: Host) -> None:
    before = host.run("cat", "/etc/appstatsd/appstatsd.toml")
    host.write("/etc/appstatsd/appstatsd.toml", 'report-interval = "often"\n')
    assert host.try_to("systemctl", "restart", "appstatsd").returncode != 0
    assert (host.show("ActiveState"), host.show("ExecMainStatus")) == ("failed", "2")
    said = host.machine.journal("-u", "appstatsd").splitlines()
    assert sum("setting report-interval (file /etc/appstatsd/appstatsd.toml" in line for line in said) == 1
    host.write("/etc/appstatsd/appstatsd.toml", before)
    host.run("systemctl", "start", "appstatsd")


def test_the_password_of_the_database_appears_nowhere(host: Host) -> None:
    host.run("systemctl", "stop", "postgresql")
    host.run("systemctl", "restart", "appstatsd")
    failed = host.try_to("appstatsd", "flush")
    shown = [
        failed.stdout + failed.stderr,
        host.run("appstatsd", "status", "--json"),
        host.run("appstatsd", "status"),
        host.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/comm | tr '\\0' ' '"),
        host.run("sh", "-c", "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID appstatsd)/environ"),
        host.run("systemctl", "show", "appstatsd"),
    ]
    host.run("systemctl", "start", "postgresql")
    host.write("/etc/appstatsd/database-url", f"postgresql://stats:not-{PASSWORD}@127.0.0.1:5433/postgres\n")
    host.run("systemctl", "restart", "appstatsd")
    with Proxy(host) as proxy:
        session = proxy.session()
        assert proxy.close()
    failed = host.try_to("appstatsd", "flush")
    assert failed.returncode == 1
    shown += [failed.stdout + failed.stderr, host.run("appstatsd", "status")]
    assert re.search("password authentication failed", "".join(shown))
    shown.append(host.run("journalctl", "--no-pager", "--output=export", "--boot"))
    host.use_postgres()
    host.run("appstatsd", "flush")
    assert session in host.rows()
    assert [text for text in shown if PASSWORD in text] == []


def test_at_shutdown_a_proxy_with_the_drop_in_ends_its_sessions_before_the_daemon_stops(host: Host) -> None:
    host.write(
        "/etc/systemd/system/proxy.service",
        f"[Service]\nDynamicUser=yes\nStateDirectory=proxy\nProtectHome=no\nEnvironment=PYTHONPATH={ROOT}/clients/python\n"
        # Its /tmp is its own, and the checkout may be there.
        f"BindReadOnlyPaths={ROOT}\n"
        f"ExecStart={PYTHON} {ROOT}/tests/systemd/reporter.py unix:{SOCKET} /var/lib/proxy/told\n",
    )
    host.write("/etc/systemd/system/proxy.service.d/appstatsd.conf", (ROOT / "systemd" / "proxy.conf").read_text())
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "stop", "appstatsd")
    host.run("systemctl", "start", "proxy")  # which wants the daemon
    told = "/var/lib/proxy/told"
    sessions = eventually(lambda: host.try_to("cat", told).stdout.split(), lambda lines: len(lines) == 5)
    host.machine.shut_down()
    host.machine.boot()
    assert host.run("cat", told).split() == [*sessions, "True"]
    host.run("systemctl", "start", "postgresql")
    found = {str(session): source for session, source in host.rows().items()}
    assert [found.get(session) for session in sessions] == ["reported"] * 5
    host.run("systemctl", "start", "appstatsd")
