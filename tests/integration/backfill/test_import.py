"""`appstatsd import` over the access logs of real servers: what they were asked is what the table says."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from appstatsd.store.migrate import migrate

from tests.integration.store.samples import query

NAMES = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
PATIENCE_SECONDS = 30.0
PATHS = "/usr/sbin:/usr/bin:/usr/local/bin"
USERS = ["ann", "ben", "ann", "ann", "cleo", "ben"] * 5

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log combined;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 "ok"; }}
  }}
}}
"""
"""As docs/import.md has it, but for where things lie: nginx's own combined format."""

APACHE = """
ServerRoot /etc/apache2
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
ServerName apps.example.com
DocumentRoot {folder}
UseCanonicalName Off
LogFormat "%v:%p %h %l %u %t \\"%r\\" %>s %O \\"%{{Referer}}i\\" \\"%{{User-Agent}}i\\"" vhost_combined
CustomLog {folder}/access.log vhost_combined
"""

CADDY = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  log {{
    output file {folder}/access.log
  }}
  respond "ok"
}}
"""

KINDS = {
    "nginx": (NGINX, ["-c", "{config}", "-p", "{folder}", "-e", "{folder}/error.log"]),
    "apache2": (APACHE, ["-X", "-f", "{config}"]),
    "caddy": (CADDY, ["run", "--config", "{config}", "--adapter", "caddyfile"]),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[int]:
    """A server that logs into `folder`, and its port."""
    program = shutil.which(kind, path=PATHS)
    if program is None:
        pytest.skip(f"needs {kind} (Debian package {kind})")
    text, arguments = KINDS[kind]
    port = free_port()
    config = folder / "config"
    config.write_text(text.format(folder=folder, port=port))
    process = subprocess.Popen(
        [program, *(argument.format(config=config, folder=folder) for argument in arguments)],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "said").open("w"),
        env={"PATH": PATHS, "HOME": str(folder)},
    )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < deadline
        yield port
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()


def ask(port: int, user: str) -> None:
    """One request, as somebody who is named in every way that a log may tell."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    basic = base64.b64encode(f"{user}:secret".encode()).decode()
    headers = {
        "Host": f"code--desk--{user}.apps.example.com:{port}",
        "Authorization": f"Basic {basic}",
        "X-User": user,
        "User-Agent": 'agent "of" mine',
    }
    with contextlib.closing(connection):
        connection.request("GET", "/a/path?x=1", headers=headers)
        connection.getresponse().read()


def run_import(url: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appstatsd", "import", f"--database-url={url}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )


def naming(user: str, workspace: str = "constant:desk", slug: str = "constant:code") -> list[str]:
    return [
        f"--als-user={user}",
        f"--als-workspace={workspace}",
        "--als-agent=constant:main",
        "--als-access-method=constant:subdomain",
        f"--als-slug-or-port={slug}",
        "--als-host-pattern={slug}--{workspace}--{user}.apps.example.com",
        f"--als-namespace={NAMES}",
    ]


def content(url: str) -> list[tuple[object, ...]]:
    return query(url, "SELECT * FROM workspace_app_stats ORDER BY id")


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("nginx", naming("tag:remote_user")),
        ("apache2", naming("constant:ann")),
        ("caddy", naming("host:user", "host:workspace", "host:slug")),
        ("caddy", naming("header:x-user")),
    ],
    ids=["nginx", "apache2", "caddy by host", "caddy by header"],
)
def test_a_servers_log_becomes_the_rows_of_what_it_was_asked(
    kind: str, flags: list[str], postgres_url: str, tmp_path: Path
) -> None:
    migrate(postgres_url)
    with serving(kind, tmp_path) as port:
        for user in USERS:
            ask(port, user)
    log = tmp_path / "access.log"
    ended = run_import(postgres_url, log, *flags)
    assert ended.returncode == 0, ended.stderr
    assert f"{len(USERS)} requests" in ended.stdout
    rows = query(
        postgres_url,
        "SELECT user_id, workspace_id, agent_id, access_method, slug_or_port, sum(requests)::int, sum(sessions)::int"
        " FROM workspace_app_stats GROUP BY 1, 2, 3, 4, 5",
    )
    asked = Counter(USERS) if "constant:ann" not in flags[0] else Counter(["ann"] * len(USERS))
    of = (uuid5(NAMES, "desk"), uuid5(NAMES, "main"), "subdomain", "code")
    assert sorted(rows) == sorted((uuid5(NAMES, user), *of, number, number) for user, number in asked.items())
    [(used, now)] = query(postgres_url, "SELECT last_used_at, now() FROM workspaces")
    assert abs((now - used).total_seconds()) < 300

    before = content(postgres_url)
    rotated = tmp_path / "access.log.1.gz"
    rotated.write_bytes(gzip.compress(log.read_bytes()))
    again = run_import(postgres_url, log, rotated, *flags)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith(f"all: {2 * len(USERS)} lines" if kind != "caddy" else "all: ")
    assert content(postgres_url) == before


LINE = '203.0.113.7 - ann [24/Nov/2026:0{hour}:00:05 +0000] "GET / HTTP/1.1" 200 5 "-" "-"\n'


def test_lines_that_tell_of_nothing_are_named_in_the_totals(postgres_url: str, tmp_path: Path) -> None:
    migrate(postgres_url)
    log = tmp_path / "[a].log"
    log.write_text(LINE.format(hour=1) + "nonsense\n" + LINE.format(hour=2).replace("ann", "-"))
    ended = run_import(postgres_url, log, *naming("tag:remote_user"))
    assert ended.stdout == (
        f"{log}: 3 lines, 1 requests, 1 rows; 1 skipped: not a line of the file's format; 1 skipped: no name of a user\n"
    )


def test_imported_rows_lie_beside_those_of_a_daemon_and_never_move_last_used_at_back(
    postgres_url: str, tmp_path: Path
) -> None:
    migrate(postgres_url)
    desk = uuid5(NAMES, "desk")
    query(postgres_url, "INSERT INTO workspaces VALUES (%s, '2027-01-01 00:00Z')", desk)
    log = tmp_path / "a.log"
    log.write_text(LINE.format(hour=1))
    assert run_import(postgres_url, log, *naming("tag:remote_user")).returncode == 0
    assert query(postgres_url, "SELECT last_used_at::text FROM workspaces") == [("2027-01-01 00:00:00+00",)]


def test_what_is_wrong_is_said_before_anything_is_written(postgres_url: str, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(LINE.format(hour=1))
    unnamed = run_import(postgres_url, log)
    assert unnamed.returncode == 2
    assert "--als-user" in unnamed.stderr
    partly = run_import(postgres_url, log, "--als-user=tag:remote_user")
    assert partly.returncode == 2
    assert "als-workspace" in partly.stderr
    missing = run_import(postgres_url, tmp_path / "none.log", *naming("tag:remote_user"))
    assert missing.returncode == 2
    assert "none.log" in missing.stderr
    unmigrated = run_import(postgres_url, log, *naming("tag:remote_user"))
    assert unmigrated.returncode == 1
    assert "appstatsd migrate" in unmigrated.stderr
    migrate(postgres_url)
    broken = tmp_path / "b.gz"
    broken.write_bytes(gzip.compress(LINE.format(hour=1).encode())[:-9])
    torn = run_import(postgres_url, broken, *naming("tag:remote_user"))
    assert torn.returncode == 1
    assert "b.gz cannot be read" in torn.stderr
    assert content(postgres_url) == []
