"""The embedded PostgreSQL, for real: what it changes, who gets in, and what is left whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from appstatsd.store import launch
from appstatsd.store.embedded import EmbeddedPostgres
from appstatsd.store.embedded_folder import EmbeddedPostgresRefused, find_programs
from structlog.testing import capture_logs

from tests.support.postgres import PostgresServer
from tests.support.processes import Watched, children

PATIENCE_SECONDS = 60.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


class StandIn:
    """A process that owns an embedded server as the daemon does."""

    def __init__(self, state_dir: Path, python: Sequence[str] = (sys.executable,), **environment: str) -> None:
        self.folder = Path(f"{state_dir}-postgres")
        path = os.pathsep.join(["daemon", ".", str(Path(psycopg.__file__).parents[1])])
        self.process = subprocess.Popen(
            [*python, "-m", "tests.support.embedded_daemon", str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env=os.environ | environment | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def answer(self) -> dict[str, str]:
        assert self.process.stdout is not None
        answer: dict[str, str] = json.loads(self.process.stdout.readline())
        return answer

    def stop(self) -> None:
        self.process.communicate(timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.stop()


@pytest.fixture
def stand_in() -> Iterator[Callable[..., StandIn]]:
    started: list[StandIn] = []

    def make(state_dir: Path, python: Sequence[str] = (sys.executable,), **environment: str) -> StandIn:
        started.append(StandIn(state_dir, python, **environment))
        return started[-1]

    yield make
    for one in started:
        one.stop()


@pytest.fixture
def watch() -> Iterator[Callable[[Path], Watched]]:
    """Watch the server of a folder, with all its processes, and kill what is left of it at the end."""
    with contextlib.ExitStack() as stack:

        def make(folder: Path) -> Watched:
            pid = postmaster(folder)
            return stack.enter_context(contextlib.closing(Watched(pid, *children(pid))))

        yield make


@pytest.fixture(scope="session")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that has been used once, to be copied: initializing one takes a second."""
    state_dir = tmp_path_factory.mktemp("embedded") / "state"
    embedded = EmbeddedPostgres(state_dir)
    embedded.start()
    embedded.stop()
    yield embedded.folder
    shutil.rmtree(embedded.folder)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder with a path that is short enough for a socket, which `tmp_path` may not have."""
    place = tmp_path_factory.mktemp("e")
    yield place
    shutil.rmtree(place)


@pytest.fixture
def state_dir(place: Path, initialized: Path) -> Path:
    """A state directory whose embedded server has its data already."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(initialized), f"{place}/state-postgres"], check=True)
    return place / "state"


@contextlib.contextmanager
def running(embedded: EmbeddedPostgres) -> Iterator[str]:
    url = embedded.start()
    try:
        yield url
    finally:
        embedded.stop()


def postmaster(folder: Path) -> int:
    return int((folder / "data/postmaster.pid").read_text().split()[0])


def query(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def look(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_mode, found.st_uid, found.st_gid


def as_nobody() -> list[str]:
    """What to put before a command to run it as nobody. (`setpriv` itself keeps its rights until it runs a program.)"""
    nobody = pwd.getpwnam("nobody")
    words = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return [*words, "sh", "-c", 'exec "$@"', "sh"]


def usable_python(prefix: list[str]) -> list[str]:
    """A Python of our version that somebody else may run too, and who may read our code: ours may lie in a home folder."""
    code = Path(__file__).parents[3] / "daemon/appstatsd/store/embedded.py"
    if subprocess.run([*prefix, "test", "-r", str(code)], check=False).returncode == 0:
        for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
            if subprocess.run([*prefix, "test", "-x", python], check=False).returncode == 0:
                return [*prefix, python]
    pytest.skip("this checkout, or its Python, is closed to others")


def open_to_others(folder: Path) -> list[Path]:
    made = [folder, *folder.rglob("*")]
    return [path for path in made if look(path)[0] & 0o077 and not path.is_symlink()]


def test_the_first_start_makes_data_that_is_there_again_after_a_clean_stop(place: Path) -> None:
    with running(EmbeddedPostgres(place / "state")) as url:
        query(url, "CREATE TABLE kept AS SELECT 7 AS a")
    with running(EmbeddedPostgres(place / "state")) as url:
        assert query(url, "SELECT a FROM kept") == [(7,)]


def test_a_start_that_is_repeated_gives_the_same_url_and_leaves_the_server_alone(state_dir: Path) -> None:
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded) as url:
        pid = postmaster(embedded.folder)
        assert embedded.start() == url
        assert postmaster(embedded.folder) == pid


def test_a_start_that_was_refused_may_be_repeated(state_dir: Path) -> None:
    embedded = EmbeddedPostgres(state_dir)
    (embedded.folder / "data").chmod(0o750)
    with pytest.raises(EmbeddedPostgresRefused):
        embedded.start()
    (embedded.folder / "data").chmod(0o700)
    with running(embedded) as url:
        assert query(url, "SELECT 1") == [(1,)]


def test_nothing_runs_after_a_stop(state_dir: Path, watch: Callable[[Path], Watched]) -> None:
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded):
        watched = watch(embedded.folder)
    assert watched.living() == []
    assert "embedded-postgres" not in {thread.name for thread in threading.enumerate()}


def test_no_folder_above_or_beside_changes_and_nothing_made_is_open_to_others(place: Path) -> None:
    middle = place / "closed" / "open"
    middle.mkdir(parents=True)
    middle.parent.chmod(0o700)
    middle.chmod(0o755)
    state_dir = middle / "state"
    state_dir.mkdir(mode=0o700)
    programs = find_programs()
    watched = [state_dir, *state_dir.parents, programs, *programs.parents, *programs.iterdir()]
    before = {path: look(path) for path in watched}
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded):
        assert {path: look(path) for path in watched} == before
        assert open_to_others(embedded.folder) == []
    assert {path: look(path) for path in watched} == before
    assert sorted(path.name for path in middle.iterdir()) == ["state", "state-postgres"]
    assert list(state_dir.iterdir()) == []


@as_root
def test_for_root_the_server_is_nobody_with_one_right(state_dir: Path) -> None:
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded):
        status = Path(f"/proc/{postmaster(embedded.folder)}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    nobody = pwd.getpwnam("nobody")
    assert fields["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert fields["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert fields["Groups"].split() == []
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {1 << 1}


def test_it_listens_on_a_unix_socket_alone_with_fsync_on(state_dir: Path) -> None:
    with running(EmbeddedPostgres(state_dir)) as url:
        assert query(url, "SHOW listen_addresses") == [("",)]
        assert query(url, "SHOW fsync") == [("on",)]
        assert query(url, "SELECT inet_server_addr()") == [(None,)]


def test_a_person_with_the_daemons_rights_gets_in_with_psql(state_dir: Path) -> None:
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded):
        words = ["-h", str(embedded.folder / "socket"), "-U", "postgres", "-Atc", "SELECT 6 * 7"]
        answer = subprocess.run([find_programs() / "psql", *words], capture_output=True, text=True, check=True)
    assert answer.stdout == "42\n"


@as_root
def test_somebody_else_cannot_reach_the_socket_nor_get_in_where_he_can(state_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded):
        psql = find_programs() / "psql"
        words = ["-h", str(embedded.folder / "socket"), "-U", "postgres", "-Atc", "SELECT 6 * 7"]
        outside = subprocess.run([*as_nobody(), "test", "-e", embedded.folder / "socket"], check=False)
        # The same account with the right to pass folders: the socket lets it in, PostgreSQL does not.
        inside = subprocess.run(
            launch.command(psql, words, death_signal=signal.SIGKILL, account=(nobody.pw_uid, nobody.pw_gid)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert outside.returncode == 1
    assert inside.returncode == 2
    assert "Peer authentication failed" in inside.stderr


def test_each_state_directory_has_a_server_of_its_own(state_dir: Path, place: Path) -> None:
    other = place / "other"
    with running(EmbeddedPostgres(state_dir)) as first, running(EmbeddedPostgres(other)) as second:
        query(first, "CREATE TABLE mine ()")
        assert query(second, "SELECT to_regclass('mine')") == [(None,)]


def test_a_second_daemon_on_one_state_directory_is_refused_and_the_first_goes_on(state_dir: Path, place: Path) -> None:
    state_dir.mkdir()
    by_another_name = place / "link"
    by_another_name.symlink_to(state_dir)
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded) as url:
        pid = postmaster(embedded.folder)
        with pytest.raises(EmbeddedPostgresRefused, match="another daemon owns"):
            EmbeddedPostgres(by_another_name).start()
        assert postmaster(embedded.folder) == pid
        assert query(url, "SELECT 1") == [(1,)]


def test_the_server_ends_when_the_daemon_is_killed_and_its_data_is_there_at_the_next_start(
    state_dir: Path, stand_in: Callable[..., StandIn], watch: Callable[[Path], Watched]
) -> None:
    daemon = stand_in(state_dir)
    query(daemon.answer()["url"], "CREATE TABLE kept AS SELECT 7 AS a")
    watched = watch(daemon.folder)
    daemon.kill()
    assert watched.living(PATIENCE_SECONDS) == []
    with running(EmbeddedPostgres(state_dir)) as url:
        assert query(url, "SELECT a FROM kept") == [(7,)]


def test_data_is_there_after_daemon_and_server_were_all_killed_at_once(
    state_dir: Path, stand_in: Callable[..., StandIn], watch: Callable[[Path], Watched]
) -> None:
    daemon = stand_in(state_dir)
    query(daemon.answer()["url"], "CREATE TABLE kept AS SELECT 7 AS a")
    for victim in (daemon.process.pid, postmaster(daemon.folder)):
        os.kill(victim, signal.SIGSTOP)  # so that none of them can do anything about the others' end
    watch(daemon.folder).close()
    daemon.kill()
    with running(EmbeddedPostgres(state_dir)) as url:
        assert query(url, "SELECT a FROM kept") == [(7,)]


def test_a_daemon_that_starts_at_once_after_a_kill_waits_for_the_earlier_server(
    state_dir: Path, stand_in: Callable[..., StandIn]
) -> None:
    for number in range(5):
        daemon = stand_in(state_dir)
        query(daemon.answer()["url"], f"CREATE TABLE kept{number} ()")
        daemon.kill()
    with running(EmbeddedPostgres(state_dir)) as url:
        assert query(url, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'kept%'") == [(5,)]


def test_an_earlier_server_that_does_not_end_by_itself_is_ended(
    state_dir: Path, stand_in: Callable[..., StandIn], watch: Callable[[Path], Watched]
) -> None:
    daemon = stand_in(state_dir)
    query(daemon.answer()["url"], "CREATE TABLE kept AS SELECT 7 AS a")
    watched = watch(daemon.folder)
    os.kill(postmaster(daemon.folder), signal.SIGSTOP)
    daemon.kill()
    assert watched.living() != []
    with running(EmbeddedPostgres(state_dir, stop_seconds=0.2, kill_seconds=3.0)) as url:
        assert watched.living() == []
        assert query(url, "SELECT a FROM kept") == [(7,)]


def test_a_daemon_killed_while_it_makes_the_data_leaves_nothing_in_the_way(
    place: Path, stand_in: Callable[..., StandIn]
) -> None:
    daemon = stand_in(place / "state")
    unfinished = daemon.folder / "data.new" / "global"
    while not unfinished.exists():
        assert daemon.process.poll() is None
    daemon.kill()
    assert not (daemon.folder / "data").exists()
    with running(EmbeddedPostgres(place / "state")) as url:
        assert query(url, "SELECT 1") == [(1,)]
    assert not unfinished.parent.exists()


def test_a_stale_pid_that_is_another_process_by_now_does_not_stop_the_start_nor_harm_that_process(
    state_dir: Path,
) -> None:
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded):
        left = (embedded.folder / "data/postmaster.pid").read_text()
    # As the account of the server, so that PostgreSQL could signal it and takes it for its own.
    words = launch.command(Path("/bin/sleep"), ["600"], death_signal=signal.SIGKILL, account=launch.account())
    with subprocess.Popen(words) as stranger:
        pid_file = embedded.folder / "data/postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n" + left.split("\n", 1)[1])
        if owner := launch.account():
            os.chown(pid_file, *owner)
        try:
            with running(EmbeddedPostgres(state_dir)) as url:
                assert query(url, "SELECT 1") == [(1,)]
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_postgres_of_others_whose_command_line_holds_the_path_is_left_alone(
    state_dir: Path, place: Path, postgres_template: Path, stand_in: Callable[..., StandIn]
) -> None:
    other = PostgresServer(place / "others", postgres_template)
    try:
        other.start("-c", f"a.note={state_dir}-postgres/data")
        pid = other.pid
        daemon = stand_in(state_dir)
        daemon.answer()
        daemon.kill()
        with running(EmbeddedPostgres(state_dir)):
            assert Path(f"/proc/{pid}/cmdline").exists()
        with other.connect() as connection:
            assert connection.execute("SHOW a.note").fetchone() == (f"{state_dir}-postgres/data",)
    finally:
        other.remove()


def test_a_server_that_was_killed_is_started_again_at_the_same_url(
    state_dir: Path, watch: Callable[[Path], Watched]
) -> None:
    embedded = EmbeddedPostgres(state_dir, first_pause_seconds=0.01)
    with running(embedded) as url:
        query(url, "CREATE TABLE kept AS SELECT 7 AS a")
        watched = watch(embedded.folder)
        os.kill(postmaster(embedded.folder), signal.SIGKILL)
        assert watched.living(PATIENCE_SECONDS) == []
        assert eventually(url, "SELECT a FROM kept") == [(7,)]


def eventually(url: str, text: str) -> list[tuple[object, ...]]:
    """Ask until there is an answer; the test's own time limit is the end of it."""
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            return query(url, text)


def test_a_server_that_cannot_start_is_tried_until_it_can_and_the_log_says_why(state_dir: Path) -> None:
    embedded = EmbeddedPostgres(state_dir, first_pause_seconds=0.01)
    settings = embedded.folder / "data/postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "nonsense = 1\n")
    with capture_logs() as logs, running(embedded) as url:
        with pytest.raises(psycopg.OperationalError):
            query(url, "SELECT 1")
        settings.write_text(good)
        assert eventually(url, "SELECT 1") == [(1,)]
    reasons = [entry["reason"] for entry in logs if "down" in entry["event"]]
    assert 'unrecognized configuration parameter "nonsense"' in reasons[0]


def cluster_state(folder: Path) -> str:
    words = [str(find_programs() / "pg_controldata"), "-D", str(folder / "data")]
    answer = subprocess.run(words, capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
    return next(
        line.split(":")[1].strip() for line in answer.stdout.splitlines() if line.startswith("Database cluster")
    )


@pytest.mark.parametrize(("frozen", "left"), [(False, "shut down"), (True, "in production")])
def test_a_stop_is_orderly_while_clients_are_connected_and_hard_where_that_takes_too_long(
    state_dir: Path, frozen: bool, left: str, watch: Callable[[Path], Watched]
) -> None:
    embedded = EmbeddedPostgres(state_dir, stop_seconds=0.2 if frozen else PATIENCE_SECONDS, kill_seconds=3.0)
    url = embedded.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t ()")
        watched = watch(embedded.folder)
        if frozen:
            os.kill(postmaster(embedded.folder), signal.SIGSTOP)
        embedded.stop()
        assert watched.living(PATIENCE_SECONDS) == []
        assert cluster_state(embedded.folder) == left
        connection.close()
    with running(EmbeddedPostgres(state_dir)) as url:
        assert query(url, "SELECT 1") == [(1,)]


def test_what_a_terminal_sends_to_the_daemon_does_not_reach_the_server(state_dir: Path) -> None:
    embedded = EmbeddedPostgres(state_dir)
    with running(embedded):
        assert os.getsid(postmaster(embedded.folder)) != os.getsid(0)


def test_no_variable_of_the_daemon_reaches_the_server(state_dir: Path, stand_in: Callable[..., StandIn]) -> None:
    daemon = stand_in(state_dir, PGPORT="1", PGDATA="/nowhere", APPSTATSD_SECRET="hidden")
    assert query(daemon.answer()["url"], "SHOW port") == [("5432",)]
    # As its own account: other processes' variables are nobody else's to read, not even root's in a container.
    variables = Path(f"/proc/{postmaster(daemon.folder)}/environ").read_bytes().split(b"\0")
    assert sorted(word.split(b"=")[0] for word in variables if word) == [b"LC_ALL", b"PATH"]


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


def test_a_path_too_long_for_a_socket_gets_a_private_short_one_that_goes_with_the_server(
    place: Path, initialized: Path, short_dir: Path
) -> None:
    state_dir = place / ("long" * 25) / "state"
    state_dir.parent.mkdir()
    subprocess.run(["cp", "-a", str(initialized), f"{state_dir}-postgres"], check=True)
    embedded = EmbeddedPostgres(state_dir, short_dir=short_dir)
    with running(embedded) as url:
        assert query(url, "SELECT 1") == [(1,)]
        [outer] = short_dir.iterdir()
        assert look(outer)[:2] == (stat.S_IFDIR | 0o700, os.geteuid())
        assert stat.S_IMODE(look(outer / "socket")[0]) == 0o700
    assert list(short_dir.iterdir()) == []
    with running(EmbeddedPostgres(state_dir, short_dir=short_dir)) as url:
        assert query(url, "SELECT 1") == [(1,)]
    shutil.rmtree(embedded.folder)


def test_a_short_path_left_by_a_kill_is_used_again_and_one_of_somebody_else_is_not(
    place: Path, initialized: Path, short_dir: Path
) -> None:
    state_dir = place / ("long" * 25) / "state"
    state_dir.parent.mkdir()
    subprocess.run(["cp", "-a", str(initialized), f"{state_dir}-postgres"], check=True)
    left = short_dir / "left"
    (left / "socket").mkdir(parents=True)
    left.chmod(0o700)
    (left / "socket").chmod(0o700)
    if owner := launch.account():
        os.chown(left / "socket", *owner)
    link = Path(f"{state_dir}-postgres/socket")
    link.rmdir()
    link.symlink_to(left / "socket")
    embedded = EmbeddedPostgres(state_dir, short_dir=short_dir)
    with running(embedded) as url:
        assert query(url, "SELECT 1") == [(1,)]
        assert list(short_dir.iterdir()) == [left]
    assert not left.exists()
    (left / "socket").mkdir(parents=True)
    left.chmod(0o755)  # others could have put anything there
    link.symlink_to(left / "socket")
    with running(EmbeddedPostgres(state_dir, short_dir=short_dir)) as url:
        assert query(url, "SELECT 1") == [(1,)]
        assert link.readlink().parent != left
    assert [*left.iterdir()] == [left / "socket"]
    shutil.rmtree(embedded.folder)


@as_root
def test_it_runs_for_a_user_without_any_right_too(
    stand_in: Callable[..., StandIn], watch: Callable[[Path], Watched]
) -> None:
    nobody = pwd.getpwnam("nobody")
    prefix = as_nobody()
    python = usable_python(prefix)
    with tempfile.TemporaryDirectory(prefix="appstatsd-test-", dir="/var/tmp") as home:
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        before = {path: look(path) for path in [Path(home), *Path(home).parents]}
        state_dir = Path(home) / "state"
        embedded = EmbeddedPostgres(state_dir)
        daemon = stand_in(state_dir, python)
        daemon.answer()
        psql = [*prefix, str(find_programs() / "psql"), "-h", str(embedded.folder / "socket"), "-U", "postgres", "-Atc"]
        subprocess.run([*psql, "CREATE TABLE kept AS SELECT 7 AS a"], check=True, cwd="/", capture_output=True)
        watched = watch(daemon.folder)
        assert Path(f"/proc/{postmaster(daemon.folder)}").stat().st_uid == nobody.pw_uid
        with pytest.raises(EmbeddedPostgresRefused, match=f"must be a folder of uid 0 .* has owner {nobody.pw_uid}"):
            EmbeddedPostgres(state_dir).start()
        daemon.kill()
        assert watched.living(PATIENCE_SECONDS) == []
        daemon = stand_in(state_dir, python)
        daemon.answer()
        again = subprocess.run([*psql, "SELECT a FROM kept"], check=True, cwd="/", capture_output=True, text=True)
        assert again.stdout == "7\n"
        assert open_to_others(embedded.folder) == []
        daemon.stop()
        assert {path: look(path) for path in before} == before


@pytest.mark.parametrize("name", ["""a 'b' "c" $d%20\\ü""", "a,b"])
def test_any_path_will_do(place: Path, short_dir: Path, name: str) -> None:
    state_dir = place / name
    with running(EmbeddedPostgres(state_dir, short_dir=short_dir)) as url:
        assert query(url, "SELECT 1") == [(1,)]
    assert [path.name for path in place.iterdir()] == [f"{state_dir.name}-postgres"]


@as_root
def test_root_without_roots_rights_is_told_what_to_do(place: Path, stand_in: Callable[..., StandIn]) -> None:
    daemon = stand_in(place / "state", ("setpriv", "--bounding-set=-all", sys.executable))
    refused = daemon.answer()["refused"]
    assert "Operation not permitted" in refused
    assert "--database-url" in refused


def test_data_of_another_major_version_is_refused_and_left_alone(state_dir: Path) -> None:
    embedded = EmbeddedPostgres(state_dir)
    version = embedded.folder / "data/PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(
        EmbeddedPostgresRefused, match=r"made by PostgreSQL 17, and PostgreSQL 18 is installed \(install"
    ):
        embedded.start()
    assert version.read_text() == "17\n"
    version.write_text("18\n")
    with running(EmbeddedPostgres(state_dir)) as url:
        assert query(url, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("inner", ["", "data", "socket"])
def test_a_folder_that_others_may_enter_is_refused_and_keeps_its_mode(state_dir: Path, inner: str) -> None:
    embedded = EmbeddedPostgres(state_dir)
    opened = embedded.folder / inner
    opened.chmod(0o750)
    before = look(opened)
    with pytest.raises(EmbeddedPostgresRefused, match=r"nobody else can enter.*drwxr-x---.*chmod 0700"):
        embedded.start()
    assert look(opened) == before


@pytest.fixture
def small_disk(place: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of a size that can be changed."""
    mount = place / "disk"
    mount.mkdir(mode=0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", mount], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")

    def resize(size: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,size={size}", mount], check=True)
        return mount

    yield resize
    subprocess.run(["umount", mount], check=True)


@as_root
def test_a_disk_full_at_the_first_start_is_said_and_leaves_nothing_in_the_way(
    small_disk: Callable[[str], Path],
) -> None:
    state_dir = small_disk("8m") / "state"
    with pytest.raises(EmbeddedPostgresRefused, match="No space left on device"):
        EmbeddedPostgres(state_dir).start()
    small_disk("200m")
    with running(EmbeddedPostgres(state_dir)) as url:
        assert query(url, "SELECT 1") == [(1,)]


@as_root
def test_after_a_disk_full_while_it_runs_it_serves_again_once_there_is_room(small_disk: Callable[[str], Path]) -> None:
    state_dir = small_disk("60m") / "state"
    with running(EmbeddedPostgres(state_dir, first_pause_seconds=0.01)) as url:
        query(url, "CREATE TABLE kept AS SELECT 7 AS a")
        with pytest.raises(psycopg.OperationalError):
            query(url, "CREATE TABLE large AS SELECT repeat(md5(i::text), 50) FROM generate_series(1, 100000) i")
        small_disk("200m")
        assert eventually(url, "SELECT a FROM kept") == [(7,)]
        query(url, "INSERT INTO kept VALUES (8)")
