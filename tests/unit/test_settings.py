"""What is in force, where it came from, and what is refused."""

from __future__ import annotations

import gc
import subprocess
import sys
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest
from appstatsd.accesslog.origins import Header, HostPattern, InHost
from appstatsd.addresses import TcpAddress, UnixAddress
from appstatsd.cli.sources import Flags, Host, read
from appstatsd.collect.rules import Rules
from appstatsd.settings import FIELDS, TABLE, Settings, SettingsError

PEM = Path(__file__).parent.parent / "support" / "pem"
HOST = Host(uid=1000, terminal=False)
HOME = {"HOME": "/home/ops"}


def settings(flags: Flags | None = None, environ: Mapping[str, str] = HOME, host: Host = HOST) -> Settings:
    return read(flags or {}, environ, host)


def refusal(flags: Flags | None = None, environ: Mapping[str, str] = HOME) -> str:
    with pytest.raises(SettingsError) as caught:
        read(flags or {}, environ, HOST)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def config(tmp_path: Path) -> typing.Callable[[str], dict[str, tuple[str, ...]]]:
    """Write a TOML file; the flags that name it."""

    def write(text: str) -> dict[str, tuple[str, ...]]:
        path = tmp_path / "appstatsd.toml"
        path.write_text(text)
        return {"config": (str(path),)}

    return write


Config = typing.Callable[[str], dict[str, tuple[str, ...]]]


def test_the_table_has_every_setting_of_the_specification_with_its_default() -> None:
    assert {row.name: row.default for row in TABLE} == {
        "listen": None,
        "admin-listen": None,
        "socket-mode": "0660",
        "socket-group": None,
        "max-streams": "1024",
        "tls-cert": None,
        "tls-key": None,
        "tls-client-ca": None,
        "database-url": None,
        "database-url-file": None,
        "pool-min-size": "1",
        "pool-max-size": "4",
        "state-dir": None,
        "durability": "journal",
        "max-state-bytes": "1GiB",
        "on-damage": "set-aside",
        "report-interval": "30s",
        "rollup-window": "1m",
        "flush-timeout": "15s",
        "batch-size": "1024",
        "client-grace": "2m",
        "client-retention": "24h",
        "session-timeout": "0s",
        "max-session-age": "31d",
        "max-clock-skew": "10m",
        "last-used-at": "auto",
        "activity-notify": "false",
        "activity-hook": None,
        "als-user": None,
        "als-workspace": None,
        "als-agent": None,
        "als-access-method": None,
        "als-slug-or-port": None,
        "als-host-pattern": None,
        "als-namespace": None,
        "als-interval": "60s",
        "retention": "0s",
        "metrics-listen": None,
        "log-level": "info",
        "log-format": None,
        "enable-test-clock": "false",
    }


def test_every_field_has_the_type_that_its_kind_makes() -> None:
    for row in TABLE:
        made = typing.get_type_hints(type(row.kind).parse)["return"]
        hint = typing.get_type_hints(Settings)[FIELDS[row.name]]
        wanted = {made, tuple[made, ...], made | None}  # type: ignore[valid-type]
        assert hint in wanted, row.name


def test_the_collectors_rules_are_the_defaults_of_the_collector_itself() -> None:
    assert settings().rules() == Rules()


def test_the_collectors_rules_are_what_was_set() -> None:
    flags = {
        "rollup-window": ("30s",),
        "client-grace": ("3m",),
        "client-retention": ("2h",),
        "session-timeout": ("5m",),
        "max-session-age": ("1d",),
        "max-clock-skew": ("1s",),
    }
    assert settings(flags).rules() == Rules(
        window_us=30_000_000,
        client_grace_us=180_000_000,
        client_retention_us=7_200_000_000,
        session_timeout_us=300_000_000,
        max_session_age_us=86_400_000_000,
        max_clock_skew_us=1_000_000,
        log_timeout_us=300_000_000,
    )


def test_a_flag_comes_before_the_environment_before_the_file_before_the_default(config: Config) -> None:
    file = config('report-interval = "7s"\nbatch-size = 7')
    environ = {**HOME, "APPSTATSD_REPORT_INTERVAL": "8s"}
    for flags, variables, seconds, where in (
        ({**file, "report-interval": ("9s",)}, environ, 9, "flag --report-interval"),
        (file, environ, 8, "environment variable APPSTATSD_REPORT_INTERVAL"),
        (file, HOME, 7, f"file {file['config'][0]}, key report-interval"),
        ({}, HOME, 30, "default"),
    ):
        found = settings(flags, variables)
        assert found.report_interval_seconds == seconds
        assert found.sources["report-interval"].where == where
        assert found.sources["report-interval"].text == f"{seconds}s"


def test_the_environment_can_name_the_file(config: Config) -> None:
    (path,) = config("batch-size = 7")["config"]
    assert settings({}, {**HOME, "APPSTATSD_CONFIG": path}).batch_size == 7


def test_an_empty_variable_counts_as_not_set() -> None:
    assert settings({}, {**HOME, "APPSTATSD_BATCH_SIZE": "", "APPSTATSD_CONFIG": ""}).batch_size == 1024


def test_several_addresses_come_from_repeated_flags_a_list_or_a_text_with_commas_or_lines(config: Config) -> None:
    wanted = (UnixAddress(Path("/run/a.sock")), TcpAddress("127.0.0.1", 4390))
    assert settings({"listen": ("unix:/run/a.sock", "127.0.0.1:4390")}).listen == wanted
    assert settings(config('listen = ["unix:/run/a.sock", "127.0.0.1:4390"]')).listen == wanted
    assert settings(config('listen = "unix:/run/a.sock"')).listen == wanted[:1]
    for text in ("unix:/run/a.sock,127.0.0.1:4390", "unix:/run/a.sock\n127.0.0.1:4390\n"):
        assert settings({}, {**HOME, "APPSTATSD_LISTEN": text}).listen == wanted


def test_the_file_has_numbers_and_truth_values_without_quotes(config: Config) -> None:
    found = settings(config("max-streams = 5\nenable-test-clock = true"))
    assert (found.max_streams, found.enable_test_clock) == (5, True)


@pytest.mark.parametrize(
    "line",
    [
        "report-interval = 30",
        "socket-mode = 660",
        "listen = [1]",
        "listen = []",
        'admin-listen = ["unix:/a", "unix:/b"]',
        "max-streams = true",
        "max-streams = 1.0",
        "enable-test-clock = 1",
        "log-level = {}",
        "state-dir = 2026-01-01",
    ],
)
def test_a_value_of_another_type_in_the_file_is_refused_with_its_key(config: Config, line: str) -> None:
    name = line.partition(" ")[0]
    file = config(line)
    text = refusal(file)
    assert text.startswith(f"setting {name} (file {file['config'][0]}, key {name}) is ")
    assert "allowed is" in text


def test_a_key_of_the_file_that_is_no_setting_is_refused_with_what_it_looks_like(config: Config) -> None:
    assert "did you mean report-interval?" in refusal(config('report_interval = "30s"'))
    assert "there is no such setting" in refusal(config('[database]\nurl = "x"'))
    assert "there is no such setting" in refusal(config('config = "x"'))


def test_a_key_that_is_no_setting_does_not_show_what_may_be_a_password(config: Config) -> None:
    assert "hunter2" not in refusal(config('database-uri = "postgresql://app:hunter2@db/apps"'))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, config: Config) -> None:
    missing = tmp_path / "none.toml"
    assert refusal({"config": (str(missing),)}) == (
        f"setting config (flag --config) is '{missing}': the file cannot be read: No such file or directory"
    )
    assert "the file is not TOML: " in refusal(config("batch-size 7"))
    (tmp_path / "latin.toml").write_bytes(b'state-dir = "/\xe4"')
    assert "the file is not TOML: " in refusal({"config": (str(tmp_path / "latin.toml"),)})


def test_a_wrong_value_is_refused_with_setting_source_value_and_what_is_allowed(config: Config) -> None:
    allowed = "allowed is a whole number from 1 to 100000"
    assert refusal({"batch-size": ("0",)}) == f"setting batch-size (flag --batch-size) is '0': {allowed}"
    assert refusal({}, {**HOME, "APPSTATSD_BATCH_SIZE": "many\nmore"}) == (
        f"setting batch-size (environment variable APPSTATSD_BATCH_SIZE) is 'many\\nmore': {allowed}"
    )
    file = config('batch-size = "x"')
    assert refusal(file) == f"setting batch-size (file {file['config'][0]}, key batch-size) is 'x': {allowed}"
    assert len(refusal({"batch-size": ("9" * 10_000,)})) < 400


WRONG_URLS = ["postgresql://app:hun@ter2@db/apps", "postgresql://app:hunter2", "mysql://app:hunter2@db/apps"]


@pytest.mark.parametrize("url", WRONG_URLS)
def test_no_source_of_a_wrong_database_url_gives_the_password_away(config: Config, tmp_path: Path, url: str) -> None:
    file = tmp_path / "url"
    file.write_text(url)
    texts = [
        refusal({"database-url": (url,)}),
        refusal({}, {**HOME, "APPSTATSD_DATABASE_URL": url}),
        refusal(config(f'database-url = "{url}"')),
        refusal(config(f'database-url = ["{url}"]')),
        refusal({"database-url-file": (str(file),)}),
    ]
    for text in texts:
        assert "hun" not in text
        assert "allowed is a PostgreSQL URL" in text
    assert "--database-url" in texts[0]
    assert str(file) in texts[-1]


def test_a_database_url_is_kept_with_its_password_and_shown_without() -> None:
    url = "postgresql://app:hunter2@db/apps"
    found = settings({"database-url": (url,)})
    assert found.database_url is not None
    assert found.database_url.text == url
    assert "hunter2" not in f"{found} {found.sources}"


def test_a_database_url_can_come_from_a_file_that_holds_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://app:hunter2@db/apps\n")
    found = settings({"database-url-file": (str(file),)})
    assert found.database_url is not None
    assert found.database_url.text == "postgresql://app:hunter2@db/apps"
    assert found.sources["database-url"].where == f"file {file}"


def test_a_database_url_file_that_cannot_be_read_or_holds_no_url_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, why in (("none", "No such file"), ("empty", "what is in the file is wrong"), ("binary", "is wrong")):
        text = refusal({"database-url-file": (str(tmp_path / name),)})
        assert text.startswith("setting database-url-file (flag --database-url-file)")
        assert why in text


def test_a_database_url_and_a_file_with_one_exclude_each_other() -> None:
    environ = {**HOME, "APPSTATSD_DATABASE_URL": "postgresql://db/apps"}
    text = refusal({"database-url-file": ("/etc/appstatsd/url",)}, environ)
    assert "database-url is set too (environment variable APPSTATSD_DATABASE_URL)" in text


@pytest.mark.parametrize(
    ("environ", "uid", "listen", "state"),
    [
        (
            {"RUNTIME_DIRECTORY": "/run/x:/run/y", "STATE_DIRECTORY": "/var/lib/x:/var/lib/y"},
            99,
            "/run/x",
            "/var/lib/x",
        ),
        ({}, 0, "/run/appstatsd", "/var/lib/appstatsd"),
        ({"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/appstatsd", "/h/.local/state/appstatsd"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, 7, "/s/appstatsd-run", "/s/appstatsd"),
        (
            {"HOME": "/h", "XDG_STATE_HOME": "rel", "XDG_RUNTIME_DIR": "rel"},
            7,
            "/h/.local/state/appstatsd-run",
            "/h/.local/state/appstatsd",
        ),
        ({}, 2**31 - 3, "/.local/state/appstatsd-run", "/.local/state/appstatsd"),
    ],
)
def test_socket_and_state_lie_where_systemd_the_system_or_the_users_session_says(
    environ: dict[str, str], uid: int, listen: str, state: str
) -> None:
    found = settings({}, environ, Host(uid, terminal=False))
    assert found.listen == (UnixAddress(Path(listen) / "appstatsd.sock"),)
    assert found.state_dir == Path(state)


def test_logs_are_for_people_on_a_terminal_and_else_for_programs() -> None:
    assert settings(host=Host(1000, terminal=True)).log_format == "console"
    assert settings(host=Host(1000, terminal=False)).log_format == "json"
    assert settings({"log-format": ("journal",)}, host=Host(1000, terminal=True)).log_format == "journal"


def test_status_is_asked_for_at_the_admin_address_else_at_the_first_listed() -> None:
    listen = {"listen": ("unix:/a", "unix:/b")}
    assert settings(listen).admin_address == UnixAddress(Path("/a"))
    assert settings({**listen, "admin-listen": ("unix:/c",)}).admin_address == UnixAddress(Path("/c"))


TLS = {
    "tls-cert": (str(PEM / "daemon.pem"),),
    "tls-key": (str(PEM / "daemon-key.pem"),),
    "tls-client-ca": (str(PEM / "ca.pem"),),
}


@pytest.mark.parametrize("name", ["listen", "admin-listen"])
def test_an_address_that_others_can_reach_needs_mutual_tls(name: str) -> None:
    text = refusal({name: ("0.0.0.0:4390",)})
    assert text.startswith(f"setting {name} (flag --{name}) is '0.0.0.0:4390'")
    assert "tls-cert, tls-key and tls-client-ca" in text
    assert settings({name: ("0.0.0.0:4390",), **TLS}).tls is not None


def test_loopback_needs_no_tls() -> None:
    assert settings({"listen": ("127.0.0.1:4390", "[::1]:4390", "localhost:4391")}).tls is None


@pytest.mark.parametrize("missing", list(TLS))
def test_the_tls_settings_come_together(missing: str) -> None:
    assert f"{missing} must be set too" in refusal({name: path for name, path in TLS.items() if name != missing})


def test_tls_files_that_cannot_serve_are_refused_by_name(tmp_path: Path) -> None:
    none, other, locked = tmp_path / "none.pem", tmp_path / "other.pem", PEM / "client-key.pem"
    other.write_text("no PEM at all\n")
    for name, path, why in (
        ("tls-cert", none, "the file cannot be read: No such file or directory"),
        ("tls-key", locked, "the unencrypted PEM key of the first certificate in tls-cert"),
        ("tls-client-ca", other, "one or more PEM certificates"),
    ):
        text = refusal({**TLS, name: (str(path),)})
        assert text.startswith(f"setting {name} (flag --{name}) is '{path}'")
        assert why in text


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({"pool-min-size": ("5",)}, ("pool-min-size", "pool-max-size, which is 4 (default)")),
        ({"client-grace": ("2h",), "client-retention": ("1h",)}, ("client-grace", "client-retention, which is 1h")),
        ({"max-session-age": ("30s",)}, ("rollup-window", "max-session-age, which is 30s (flag --max-session-age)")),
        ({"retention": ("59m",)}, ("retention", "allowed is 0s (off), or a duration from 1h on")),
        ({"listen": ("unix:/a", "unix:/a")}, ("listen", "twice")),
        ({"listen": ("unix:/a",), "admin-listen": ("unix:/a",)}, ("admin-listen", "not in listen (flag --listen)")),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(flags: Flags, names: tuple[str, str]) -> None:
    text = refusal(flags)
    assert text.startswith(f"setting {names[0]} (")
    assert names[1] in text


def test_values_that_meet_are_allowed() -> None:
    settings(
        {"pool-min-size": ("4",), "client-grace": ("1h",), "client-retention": ("1h",), "max-session-age": ("1m",)}
    )


@pytest.mark.parametrize(
    ("name", "wise", "unwise"),
    [
        ("rollup-window", "60s", "59s"),
        ("report-interval", "4m", "241s"),
        ("client-grace", "1h", "61m"),
        ("metrics-listen", "127.0.0.1:9390", "0.0.0.0:9390"),
    ],
)
def test_what_is_allowed_but_unwise_is_said(name: str, wise: str, unwise: str) -> None:
    assert settings({name: (wise,)}).warnings == ()
    (warning,) = settings({name: (unwise,)}).warnings
    assert warning.startswith(f"setting {name} (flag --{name}) is {unwise}: ")


def test_the_test_clock_is_warned_of() -> None:
    assert "enable-test-clock" in settings({"enable-test-clock": ("true",)}).warnings[0]


def test_a_misspelled_variable_is_warned_of_and_one_that_a_cluster_sets_is_not() -> None:
    environ = {
        **HOME,
        "APPSTATSD_REPORT_INTERVALL": "9s",
        "APPSTATSD_PORT": "tcp://10.0.0.1:80",
        "APPSTATSD_SERVICE_HOST": "x",
    }
    assert settings({}, environ).warnings == (
        "environment variable APPSTATSD_REPORT_INTERVALL is no setting and has no effect; "
        "did you mean APPSTATSD_REPORT_INTERVAL?",
    )


def test_a_command_that_talks_to_a_daemon_is_not_stopped_by_settings_that_it_has_no_use_for() -> None:
    flags = {"listen": ("0.0.0.0:4390",)}
    environ = {**HOME, "APPSTATSD_BATCH_SIZE": "many", "APPSTATSD_TLS_KEY": "/root/key.pem"}
    found = read(flags, environ, HOST, only=("listen",))
    assert found.listen == (TcpAddress("0.0.0.0", 4390),)
    assert found.batch_size == 1024


def test_reading_again_sees_what_has_changed_in_the_file_and_which_of_it_needs_a_restart(config: Config) -> None:
    old = settings(config('log-level = "info"\nbatch-size = 7'))
    config('log-level = "debug"\nbatch-size = 8\nrollup-window = "60s"')
    new = old.read_again()
    assert (new.log_level, new.batch_size) == ("debug", 8)
    assert {row.name: row.reloads for row in old.changed(new)} == {"batch-size": False, "log-level": True}


def test_reading_again_refuses_what_is_wrong_by_then(config: Config) -> None:
    old = settings(config("batch-size = 7"))
    config("batch-size = 0")
    with pytest.raises(SettingsError):
        old.read_again()


def test_reading_again_keeps_nothing_from_the_garbage_collector() -> None:
    """A start does (loading.py); but at a reload much is alive that becomes garbage later."""
    old = settings({"database-url": ("postgresql://db/apps",)})
    kept = gc.get_freeze_count()
    old.read_again()
    assert gc.get_freeze_count() == kept


ALS = {
    "als-user": ("header:x-user", "host:user"),
    "als-workspace": ("host:workspace",),
    "als-agent": ("constant:main",),
    "als-access-method": ("constant:subdomain",),
    "als-slug-or-port": ("host:slug",),
    "als-host-pattern": ("{slug}--{workspace}--{user}.apps.example.com",),
    "als-namespace": ("6ba7b810-9dad-11d1-80b4-00c04fd430c8",),
}


def test_access_logs_are_not_taken_unless_a_name_has_an_origin() -> None:
    assert settings().naming is None
    assert settings({"als-interval": ("5s",), "als-namespace": ALS["als-namespace"]}).naming is None
    naming = settings(ALS).naming
    assert naming is not None
    assert naming.user == (Header("x-user"), InHost("user"))
    assert naming.host_pattern == HostPattern("{slug}--{workspace}--{user}.apps.example.com")


def test_origins_are_a_list_in_the_file_and_parted_by_commas_in_the_environment(config: Config) -> None:
    others = {name: texts for name, texts in ALS.items() if name != "als-user"}
    for found in (
        settings({**others, **config('als-user = ["header:x-user", "host:user"]')}),
        settings(others, {**HOME, "APPSTATSD_ALS_USER": "header:x-user, host:user"}),
    ):
        assert found.als_user == (Header("x-user"), InHost("user"))


@pytest.mark.parametrize(
    ("name", "texts", "wrong"),
    [
        ("als-user", (), "it must be set where another"),
        ("als-workspace", (), "it must be set where another"),
        ("als-agent", (), "it must be set where another"),
        ("als-access-method", (), "it must be set where another"),
        ("als-slug-or-port", (), "it must be set where another"),
        ("als-user", ("host:name",), "als-host-pattern must be set and hold {name}"),
        ("als-access-method", ("constant:ssh",), "allowed constants are path, subdomain, terminal"),
        ("als-host-pattern", (), "als-host-pattern must be set and hold {user}"),
        ("als-namespace", (), "the constant must be a UUID, or als-namespace must be set too"),
        ("als-namespace", ("main",), "allowed is a UUID"),
        ("als-user", ("x-user",), "allowed is header:NAME, "),
        ("als-host-pattern", ("apps.example.com",), "there is no {name} in it"),
    ],
)
def test_names_of_access_logs_that_cannot_be_found_are_refused(name: str, texts: tuple[str, ...], wrong: str) -> None:
    assert wrong in refusal({**ALS, name: texts})


def test_only_where_all_sessions_are_terminals_is_no_slug_needed() -> None:
    terminals = {**ALS, "als-slug-or-port": (), "als-access-method": ("constant:terminal",)}
    assert settings(terminals).naming is not None
    both = {**terminals, "als-access-method": ("header:method", "constant:terminal")}
    assert "it must be set where another" in refusal(both)


def test_an_interval_of_access_logs_over_the_grace_is_unwise() -> None:
    assert settings({**ALS, "als-interval": ("2m",)}).warnings == ()
    assert "als-interval" in settings({**ALS, "als-interval": ("121s",)}).warnings[0]


def test_sessions_of_access_logs_time_out_after_three_intervals_unless_the_time_out_is_set() -> None:
    assert settings({"als-interval": ("10s",)}).rules().log_timeout_us == 30_000_000
    assert settings({"als-interval": ("10s",), "session-timeout": ("90s",)}).rules().log_timeout_us == 90_000_000


def test_envoys_messages_are_not_loaded_where_access_logs_are_not_taken() -> None:
    # They take some 50 ms to load, which nobody else need wait for.
    code = "import sys, appstatsd.daemon, appstatsd.cli.main; sys.exit('envoy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
