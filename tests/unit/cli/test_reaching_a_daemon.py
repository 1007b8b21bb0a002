"""Where commands look for a daemon, and what they say when none is there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from appstatsd.cli import client
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.unit.cli.conftest import Ended, FakeDaemon, handler_of

Run = Callable[..., Ended]
PEM = Path(__file__).parents[2] / "support" / "pem"


@pytest.mark.parametrize("command", [("status",), ("flush",), ("quarantine", "list")])
def test_without_a_daemon_one_line_says_what_was_tried_and_what_to_do(
    run: Run, tmp_path: Path, command: tuple[str]
) -> None:
    ended = run(*command)
    assert (ended.status, ended.out) == (69, "")
    assert ended.err == (
        f"appstatsd: no daemon answers at unix:{tmp_path}/appstatsd/appstatsd.sock (no such socket), "
        f"unix:{tmp_path}/system.sock (no such socket): start one with `appstatsd serve`, "
        "or say with --listen or --admin-listen where it is\n"
    )


def test_a_socket_that_nobody_serves_is_told_from_one_that_is_not_there(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale.sock"))
    assert "stale.sock (nobody listens there): " in run("status", "--listen", f"unix:{tmp_path}/stale.sock").err


def test_permission_denied_says_who_may(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(client, "_probe", denied)
    assert "permission denied; run this as the daemon's user, as root or in the socket's group" in run("status").err


def test_a_tcp_address_that_nobody_serves_is_named(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ended = run("status", "--listen", f"127.0.0.1:{port}")
    assert ended.status == 69
    assert f"127.0.0.1:{port} (nobody listens there)" in ended.err


def test_something_that_takes_connections_and_says_nothing_is_no_daemon(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        ended = run("status", "--listen", f"unix:{tmp_path}/mute.sock")
    assert ended.status == 69
    assert "took the connection but did not answer" in ended.err


def test_the_admin_address_is_asked_rather_than_the_first_listed(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["Flush"] = wire.FlushResponse()
    nowhere = f"unix:{tmp_path}/none.sock"
    assert run("flush", "--listen", nowhere, "--listen", str(daemon.address)).status == 69
    assert run("flush", "--listen", nowhere, "--admin-listen", str(daemon.address)).status == 0


def test_the_systems_daemon_is_found_by_a_user_who_has_none(
    run: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    daemon.answers["Flush"] = wire.FlushResponse()
    monkeypatch.setattr(client, "_SYSTEM_SOCKET", daemon.address)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "other"))
    assert run("flush").status == 0
    assert run("flush", "--listen", f"unix:{tmp_path}/none.sock").status == 69


def test_a_setting_that_only_the_daemon_needs_does_not_keep_from_asking(
    run: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["Flush"] = wire.FlushResponse()
    monkeypatch.setenv("APPSTATSD_BATCH_SIZE", "0")
    monkeypatch.setenv("APPSTATSD_TLS_KEY", "/readable/by/the/daemon/alone")
    assert run("flush").status == 0


@pytest.fixture
def tls_port(daemon: FakeDaemon) -> Iterator[int]:
    """Where the daemon serves TLS and wants a certificate."""
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([handler_of(daemon, "SessionReportService", ("Flush",))])
    pair = ((PEM / "daemon-key.pem").read_bytes(), (PEM / "daemon.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (PEM / "ca.pem").read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def tls(**names: str) -> list[str]:
    files = {"tls-cert": "daemon.pem", "tls-key": "daemon-key.pem", "tls-client-ca": "ca.pem", **names}
    return [f"--{name}={PEM / file}" for name, file in files.items()]


def test_tcp_with_tls_is_reached_with_the_daemons_own_certificate(run: Run, daemon: FakeDaemon, tls_port: int) -> None:
    daemon.answers["Flush"] = wire.FlushResponse()
    assert run("flush", "--listen", f"0.0.0.0:{tls_port}", *tls()).status == 0


def test_certificates_that_the_other_side_does_not_take_are_asked_about(
    run: Run, daemon: FakeDaemon, tls_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.5)
    strange = ["--tls-client-ca", str(PEM / "client.pem")]
    ended = run("flush", "--listen", f"127.0.0.1:{tls_port}", *tls(), *strange)
    assert (ended.status, ended.err.count("\n")) == (69, 1)
    assert "do both sides' certificates come from" in ended.err
    assert "does it serve TLS?" in run("flush", "--listen", f"127.0.0.1:{tls_port}").err


def test_a_certificate_that_cannot_be_read_is_named(run: Run, tls_port: int) -> None:
    ended = run("flush", "--listen", f"127.0.0.1:{tls_port}", *tls(), "--tls-key", str(PEM / "none.pem"))
    assert (ended.status, ended.err) == (
        1,
        f"appstatsd: {PEM / 'none.pem'} cannot be read: No such file or directory\n",
    )
