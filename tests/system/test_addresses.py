"""On which addresses a daemon process answers, and which it does not take from others."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import Caller, DaemonProcess
from tests.support.raw_client import Client, RawStream, request
from tests.system.conftest import NewDaemon

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
NOBODY = 65_534
PEM = Path(__file__).parents[1] / "support/pem"


def fails(daemon: DaemonProcess, status: int = 1) -> str:
    """Why the daemon does not start; it says so once, in a line."""
    daemon.launch()
    assert daemon.wait() == status
    assert not any(line.startswith("ready") for line in daemon.output)
    if status == 2:
        [line] = daemon.output
        daemon.output.clear()
        return line
    [event] = [event for event in daemon.log if event["level"] == "critical"]
    daemon.log.remove(event)
    assert event["event"] == "The daemon cannot go on"
    return str(event["error"])


@pytest.fixture
def nobodys(new_daemon: NewDaemon) -> DaemonProcess:
    """A daemon whose database is away, which is no matter here."""
    return new_daemon(NO_DATABASE)


def rights(path: Path) -> tuple[int, int]:
    state = path.stat()
    return stat.S_IMODE(state.st_mode), state.st_gid


def test_a_client_that_comes_as_early_as_it_can_finds_the_socket_with_its_mode_and_group(
    new_daemon: NewDaemon,
) -> None:
    daemon = new_daemon(NO_DATABASE, "--socket-mode=0620", f"--socket-group={NOBODY}")
    found: list[tuple[int, int]] = []
    done = threading.Event()

    def probe() -> None:
        while not done.is_set() and len(found) < 100:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                try:
                    client.connect(str(daemon.socket))
                    found.append(rights(daemon.socket))
                except (FileNotFoundError, ConnectionRefusedError):
                    pass

    with ThreadPoolExecutor(1) as pool:
        prober = pool.submit(probe)
        try:
            daemon.start()
            prober.result(60)
        finally:
            done.set()
    assert set(found) == {(0o620, NOBODY)}


def test_by_default_members_of_the_daemons_group_may_connect(nobodys: DaemonProcess) -> None:
    nobodys.start()
    assert rights(nobodys.socket) == (0o660, os.getgid())


def test_the_socket_that_a_killed_daemon_left_is_replaced(nobodys: DaemonProcess) -> None:
    nobodys.start()
    nobodys.signal(signal.SIGKILL)
    nobodys.wait()
    assert nobodys.socket.is_socket()
    nobodys.start()
    Client(nobodys.target).stream.close()


def test_the_path_stays_over_a_restart(nobodys: DaemonProcess) -> None:
    for _ in range(2):
        nobodys.start()
        Client(nobodys.target).stream.close()
        assert nobodys.stop() == 0
        assert not nobodys.socket.exists()


def test_a_second_daemon_does_not_take_the_socket_of_one_that_runs(new_daemon: NewDaemon) -> None:
    first = new_daemon(NO_DATABASE)
    first.start()
    second = new_daemon(NO_DATABASE, f"--listen=unix:{first.socket}")
    assert fails(second) == (f"another daemon holds the socket {first.socket}; stop it, or choose another --listen")
    assert first.health() == "SERVING"
    Client(first.target).stream.close()
    assert first.stop() == 0


def test_nor_that_of_any_other_process(nobodys: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(nobodys.socket))
        other.listen()
        assert "another process serves the socket" in fails(nobodys)
        assert nobodys.socket.is_socket()


def test_a_second_daemon_does_not_take_the_state_directory_of_one_that_runs(new_daemon: NewDaemon) -> None:
    first = new_daemon(NO_DATABASE)
    first.start()
    second = new_daemon(NO_DATABASE, f"--state-dir={first.folder / 'state'}")
    assert str(first.folder / "state") in fails(second)
    assert first.health() == "SERVING"


def test_what_is_no_socket_is_let_be(nobodys: DaemonProcess) -> None:
    nobodys.socket.write_text("precious")
    assert fails(nobodys) == f"{nobodys.socket} is there and is no socket; remove it, or choose another --listen"
    assert nobodys.socket.read_text() == "precious"


def test_a_missing_folder_is_named(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(NO_DATABASE, f"--listen=unix:{tmp_path}/missing/a.sock")
    assert f"the folder of the socket {tmp_path}/missing/a.sock is not there" in fails(daemon)


def test_a_path_that_is_too_long_is_a_wrong_setting(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(NO_DATABASE, f"--listen=unix:{tmp_path}/{'a' * 107}")
    assert "its path has" in fails(daemon, status=2)


def test_a_port_that_is_in_use_is_not_shared(new_daemon: NewDaemon) -> None:
    first = new_daemon(NO_DATABASE, "--listen=127.0.0.1:0")
    first.start()
    [address] = first.addresses
    second = new_daemon(NO_DATABASE, f"--listen={address}")
    assert f"{address} can't be listened on: another process has it" in fails(second)
    assert Caller(address).health() == "SERVING"


def test_several_addresses_serve_the_same_and_the_ready_line_names_them_with_their_ports(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    first, second = tmp_path / "appstatsd.sock", tmp_path / "appstatsd-too.sock"
    daemon = new_daemon(NO_DATABASE, f"--listen=unix:{first}", f"--listen=unix:{second}", "--listen=127.0.0.1:0")
    daemon.start()
    assert daemon.addresses[:2] == [f"unix:{first}", f"unix:{second}"]
    assert not daemon.addresses[2].endswith(":0")
    with Client(daemon.addresses[0]) as client, Client(daemon.addresses[2], client.client_id):
        client.stream.end()  # taken over
    assert [Caller(address).status().version for address in daemon.addresses]
    assert daemon.stop() == 0
    assert not first.exists()
    assert not second.exists()


def test_an_address_that_cannot_be_had_leaves_nothing_of_the_others(new_daemon: NewDaemon, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        daemon = new_daemon(NO_DATABASE, f"--listen=unix:{folder}/a.sock", f"--listen=127.0.0.1:{port}")
        assert f"127.0.0.1:{port} can't be listened on" in fails(daemon)
    assert [each.name for each in folder.iterdir()] == ["a.sock.lock"]


@pytest.fixture(scope="module")
def tls_address(module_daemons: NewDaemon) -> str:
    """A daemon that takes clients with a certificate alone, and a port that any host could reach."""
    daemon = module_daemons(
        NO_DATABASE,
        "--listen=0.0.0.0:0",
        f"--tls-cert={PEM / 'daemon.pem'}",
        f"--tls-key={PEM / 'daemon-key.pem'}",
        f"--tls-client-ca={PEM / 'ca.pem'}",
    )
    daemon.start()
    [address] = daemon.addresses
    return f"localhost:{address.rpartition(':')[2]}"


class TestTls:
    def test_a_client_with_a_certificate_of_the_right_authority_is_served(self, tls_address: str) -> None:
        credentials = grpc.ssl_channel_credentials(
            (PEM / "ca.pem").read_bytes(), (PEM / "client-key.pem").read_bytes(), (PEM / "client.pem").read_bytes()
        )
        with RawStream(tls_address, credentials=credentials) as stream:
            stream.send(request(client_id="tls"))
            assert stream.receive().acked_sequence == 0

    @pytest.mark.parametrize("ca", ["ca.pem", None])
    def test_one_without_is_not_and_sees_the_daemon_as_unavailable(self, tls_address: str, ca: str | None) -> None:
        credentials = None if ca is None else grpc.ssl_channel_credentials((PEM / ca).read_bytes())
        with RawStream(tls_address, credentials=credentials) as stream:
            stream.send(request(client_id="tls"))
            assert stream.end().code is grpc.StatusCode.UNAVAILABLE

    def test_a_port_that_others_could_reach_needs_certificates(self, new_daemon: NewDaemon) -> None:
        assert "tls" in fails(new_daemon(NO_DATABASE, "--listen=0.0.0.0:0"), status=2)
