"""How the daemon is reached: TCP with mutual TLS, past the environment's proxies, and a daemon that stops answering."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from appstatsd_client import AccessMethod, App, Client, Limits, Tls, events
from appstatsd_client.transport import retry_delay_ms
from scripted_daemon import DEADLINE_SECONDS, ScriptedDaemon

APP = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.TERMINAL, "")
QUICK = Limits(linger_seconds=0.001, backoff_base_seconds=0.01, backoff_max_seconds=0.05)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and NAME.pem and NAME.key of `daemon`, `proxy` and `stranger`, whom the CA does not know."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name, issuer in (("ca", ""), ("daemon", "ca"), ("proxy", "ca"), ("stranger", "")):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
        if not issuer:
            openssl(folder, "req", "-x509", *key, "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")
            continue
        openssl(folder, "req", *key, "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", "2"]
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "san", *signing)
    return folder


def tls(folder: Path, name: str) -> Tls:
    return Tls.from_files(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")


def test_mutual_tls_lets_in_whom_the_ca_knows_and_nobody_else(certificates: Path) -> None:
    own = [((certificates / "daemon.key").read_bytes(), (certificates / "daemon.pem").read_bytes())]
    ca = (certificates / "ca.pem").read_bytes()
    daemon = ScriptedDaemon("127.0.0.1:0", grpc.ssl_server_credentials(own, ca, require_client_auth=True))
    daemon.start()
    try:
        target = f"localhost:{daemon.port}"
        with Client(target, tls=tls(certificates, "proxy"), limits=QUICK) as client:
            client.begin(APP)
            daemon.wait_for(lambda d: len(d.model.sessions) == 1)
        told: queue.Queue[events.Event] = queue.Queue()
        stranger = Client(target, tls=tls(certificates, "stranger"), limits=QUICK, on_event=told.put)
        stranger.begin(APP)
        refused = told.get(timeout=DEADLINE_SECONDS)
        assert isinstance(refused, events.Disconnected)
        assert refused.status == "UNAVAILABLE"
        assert not stranger.close(0)
        assert len(daemon.model.clients) == 1
    finally:
        daemon.stop()


def test_tls_on_a_unix_socket_is_an_error() -> None:
    with pytest.raises(ValueError, match="TLS is for HOST:PORT"):
        Client("unix:/run/appstatsd.sock", tls=Tls(b"", b"", b""))


def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    daemon = ScriptedDaemon("127.0.0.1:0")
    daemon.start()
    try:
        with Client(f"127.0.0.1:{daemon.port}", limits=QUICK) as client:
            client.begin(APP)
            daemon.wait_for(lambda d: d.model.sessions)
    finally:
        daemon.stop()


def test_a_daemon_that_stops_answering_is_given_up_and_found_again(tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/daemon.sock"
    script = (
        "import sys; from scripted_daemon import ScriptedDaemon; d = ScriptedDaemon(sys.argv[1]); d.start();"
        "print('ready', flush=True); sys.stdin.read(); d.stop()"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    told: queue.Queue[events.Event] = queue.Queue()
    limits = Limits(
        linger_seconds=0.001, backoff_max_seconds=0.05, keepalive_time_seconds=1, keepalive_timeout_seconds=1
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, target], env=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as frozen:
        assert frozen.stdout
        assert frozen.stdout.readline() == b"ready\n"
        client = Client(target, limits=limits, on_event=told.put)
        session = client.begin(APP)
        assert isinstance(told.get(timeout=DEADLINE_SECONDS), events.Connected)
        frozen.send_signal(signal.SIGSTOP)
        try:
            assert isinstance(told.get(timeout=DEADLINE_SECONDS), events.Disconnected)
        finally:
            frozen.send_signal(signal.SIGCONT)
        session.end()
        assert client.close(DEADLINE_SECONDS)
        frozen.communicate(timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize(
    ("trailing", "delay"),
    [
        (None, None),
        ((), None),
        ((("appstats-retry-delay-ms", "250"),), 250),
        ((("other", "1"), ("appstats-retry-delay-ms", "0")), 0),
        ((("appstats-retry-delay-ms", "soon"),), None),
        ((("appstats-retry-delay-ms", "-5"),), None),
        ((("appstats-retry-delay-ms", b"5"),), None),
    ],
)
def test_a_delay_that_cannot_be_read_is_none(
    trailing: tuple[tuple[str, str | bytes], ...] | None, delay: int | None
) -> None:
    assert retry_delay_ms(trailing) == delay
