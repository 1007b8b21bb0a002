"""What can be set, what does it mean, and what is in force?

The fields of `Settings` are the one table of all settings: names, kinds, defaults and help. Flags, environment variables,
keys of the TOML file, `--help`, `check-config` and docs/settings.md are made from it. Invariant: a `Settings` that was
read whole (cli/sources.py) is right in itself, so that nobody behind it checks a setting again.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

from appstatsd.accesslog.kinds import NameOrigin, NamesInHost, Namespace
from appstatsd.accesslog.naming import Naming
from appstatsd.accesslog.origins import HostPattern, Origin
from appstatsd.addresses import Address, TcpAddress
from appstatsd.collect.rules import SECOND_US, Rules
from appstatsd.database_url import DatabaseUrl
from appstatsd.errors import AppstatsdError
from appstatsd.http_url import HttpUrl
from appstatsd.values import (
    Boolean,
    Choice,
    Database,
    Duration,
    FileMode,
    FilePath,
    Group,
    HttpAddress,
    Integer,
    ListenAddress,
    Setting,
    Size,
    Source,
    TcpListenAddress,
)


class SettingsError(AppstatsdError):
    """A setting is wrong. The text is one line: the setting, its source, its value, and what is allowed."""

    def __init__(self, name: str, source: Source, wrong: str) -> None:
        text = source.text if len(source.text) <= 200 else f"{source.text[:200]}…"
        super().__init__(" ".join(f"setting {name} ({source.where}) is {text!r}: {wrong}".split()))


@dataclass(frozen=True, slots=True)
class Tls:
    """What mutual TLS needs; all are PEM files."""

    cert: Path
    key: Path
    client_ca: Path


def _duration(
    name: str, default: str, lowest: str, highest: str, text: str, *, default_is: str = "", heading: str = ""
) -> Setting:
    return Setting(name, Duration(lowest, highest), default, text, default_is, heading=heading)


def _origins(name: str, text: str, *, heading: str = "") -> Setting:
    help_text = f"{text} May be given more than once: the first that is there counts."
    return Setting(name, NameOrigin(), None, help_text, repeatable=True, heading=heading)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one daemon, as they are in force."""

    listen: Annotated[
        tuple[Address, ...],
        Setting(
            "listen",
            ListenAddress(),
            None,
            "Where clients connect. May be given more than once.",
            "unix: + the runtime directory + /appstatsd.sock",
            repeatable=True,
            heading="Clients",
        ),
    ]
    admin_listen: Annotated[
        Address | None,
        Setting(
            "admin-listen",
            ListenAddress(),
            None,
            "Where status, flush, quarantine, forget and reflection are served, instead of on --listen.",
        ),
    ]
    socket_mode: Annotated[int, Setting("socket-mode", FileMode(), "0660", "Permissions of unix sockets.")]
    socket_gid: Annotated[
        int | None, Setting("socket-group", Group(), None, "Group of unix sockets, whose members may connect.")
    ]
    max_streams: Annotated[int, Setting("max-streams", Integer(1, 65_536), "1024", "How many streams may be open.")]
    tls_cert: Annotated[
        Path | None,
        Setting(
            "tls-cert",
            FilePath(),
            None,
            "Certificate chain of the daemon (PEM). TCP addresses that are not loopback need all of --tls-*.",
        ),
    ]
    tls_key: Annotated[Path | None, Setting("tls-key", FilePath(), None, "Private key to --tls-cert (PEM).")]
    tls_client_ca: Annotated[
        Path | None,
        Setting(
            "tls-client-ca", FilePath(), None, "Certificates that clients' certificates are checked against (PEM)."
        ),
    ]

    database_url: Annotated[
        DatabaseUrl | None,
        Setting(
            "database-url",
            Database(),
            None,
            "The database that rows go to.",
            "an embedded PostgreSQL",
            heading="Database",
        ),
    ]
    database_url_file: Annotated[
        Path | None,
        Setting(
            "database-url-file",
            FilePath(),
            None,
            "File whose only line is the database URL, instead of --database-url. Under systemd, by default the "
            "credential database-url.",
        ),
    ]
    pool_min_size: Annotated[
        int, Setting("pool-min-size", Integer(0, 1_000), "1", "Connections to the database that are kept open.")
    ]
    pool_max_size: Annotated[
        int,
        Setting(
            "pool-max-size",
            Integer(1, 1_000),
            "4",
            "Connections to the database at most. Up to half of them write at the same time while more than one batch "
            "waits.",
        ),
    ]
    last_used_at: Annotated[
        str,
        Setting(
            "last-used-at",
            Choice(("auto", "upsert", "update", "off")),
            "auto",
            "How workspaces.last_used_at is kept: update touches only rows that exist; auto is upsert where "
            "`appstatsd migrate` made the table, else update.",
        ),
    ]

    retention_us: Annotated[
        int,
        _duration(
            "retention",
            "0s",
            "0s",
            "36500d",
            "How long rows are kept after they ended, at least 1h; 0s is for ever.",
            default_is="0s (off)",
        ),
    ]

    activity_notify: Annotated[
        bool,
        Setting(
            "activity-notify",
            Boolean(),
            "false",
            "Tell by PostgreSQL's NOTIFY appstatsd_activity which workspaces were used, once a --report-interval.",
            "off",
            heading="Telling of activity",
        ),
    ]
    activity_hook: Annotated[
        HttpUrl | None,
        Setting(
            "activity-hook",
            HttpAddress(),
            None,
            "Where to POST which workspaces were used, once a --report-interval. Shown by check-config as it is.",
            "off",
        ),
    ]

    state_dir: Annotated[
        Path,
        Setting(
            "state-dir",
            FilePath(),
            None,
            "Folder of the daemon's own; nothing else may use it.",
            "systemd's state directory, else the user's",
            heading="State",
        ),
    ]
    durability: Annotated[
        str,
        Setting(
            "durability",
            Choice(("journal", "memory")),
            "journal",
            "What an acknowledgement means: in the journal on disk, or collected in memory.",
        ),
    ]
    max_state_bytes: Annotated[
        int,
        Setting("max-state-bytes", Size("1MiB", "16TiB"), "1GiB", "How large the state directory may get."),
    ]
    on_damage: Annotated[
        str,
        Setting(
            "on-damage",
            Choice(("set-aside", "stop")),
            "set-aside",
            "What to do at the start when the journal is damaged: keep what is whole and go on, or refuse to start.",
        ),
    ]

    report_interval_us: Annotated[
        int,
        _duration(
            "report-interval", "30s", "100ms", "1h", "How often rows are written to the database.", heading="Collecting"
        ),
    ]
    rollup_window_us: Annotated[
        int, _duration("rollup-window", "1m", "1s", "1h", "Sessions up to this long are rolled up into windows of it.")
    ]
    flush_timeout_us: Annotated[
        int, _duration("flush-timeout", "15s", "100ms", "10m", "How long one flush may take before it is given up.")
    ]
    batch_size: Annotated[
        int, Setting("batch-size", Integer(1, 100_000), "1024", "Rows that are written in one transaction at most.")
    ]
    client_grace_us: Annotated[
        int,
        _duration(
            "client-grace",
            "2m",
            "0s",
            "24h",
            "How long a client may be away before its live sessions count as ended. At most --client-retention.",
        ),
    ]
    client_retention_us: Annotated[
        int,
        _duration(
            "client-retention", "24h", "1s", "366d", "How long a client is remembered after its last sign of life."
        ),
    ]
    session_timeout_us: Annotated[
        int,
        _duration(
            "session-timeout",
            "0s",
            "0s",
            "366d",
            "How long a live session may go unreported before it counts as ended; 0s is for ever.",
            default_is="0s (off)",
        ),
    ]
    max_session_age_us: Annotated[
        int, _duration("max-session-age", "31d", "1s", "366d", "The age at which a live session counts as ended.")
    ]
    max_clock_skew_us: Annotated[
        int, _duration("max-clock-skew", "10m", "0s", "24h", "How far ahead of this host's clock a report may lie.")
    ]

    als_user: Annotated[
        tuple[Origin, ...],
        _origins("als-user", "Where in an access log's entry the user's name stands.", heading="Access logs"),
    ]
    als_workspace: Annotated[tuple[Origin, ...], _origins("als-workspace", "Where the workspace's name stands.")]
    als_agent: Annotated[tuple[Origin, ...], _origins("als-agent", "Where the agent's name stands.")]
    als_access_method: Annotated[
        tuple[Origin, ...],
        _origins("als-access-method", "Where the access method stands (path, subdomain or terminal)."),
    ]
    als_slug_or_port: Annotated[
        tuple[Origin, ...], _origins("als-slug-or-port", "Where the app's slug or port stands; terminals need none.")
    ]
    als_host_pattern: Annotated[
        HostPattern | None,
        Setting("als-host-pattern", NamesInHost(), None, "How names stand in a host name, for host:NAME."),
    ]
    als_namespace: Annotated[
        UUID | None,
        Setting(
            "als-namespace",
            Namespace(),
            None,
            "Names that are no UUIDs become UUIDs of version 5 in this namespace; without it, their entries are skipped.",
        ),
    ]
    als_interval_us: Annotated[
        int,
        _duration(
            "als-interval",
            "60s",
            "1s",
            "24h",
            "How often Envoy is configured to log a connection that goes on. Without --session-timeout, one that was not "
            "logged for three times as long counts as ended.",
        ),
    ]

    metrics_listen: Annotated[
        TcpAddress | None,
        Setting(
            "metrics-listen",
            TcpListenAddress(),
            None,
            "Where metrics are served over HTTP.",
            "off",
            heading="Watching and testing",
        ),
    ]
    log_level: Annotated[
        str,
        Setting(
            "log-level",
            Choice(("debug", "info", "warning", "error")),
            "info",
            "The least important events that are logged.",
            reloads=True,
        ),
    ]
    log_format: Annotated[
        str,
        Setting(
            "log-format",
            Choice(("console", "json", "journal")),
            None,
            "How events are written to standard error: for people, as JSON, or as entries of systemd's journal.",
            "console on a terminal, else json",
        ),
    ]
    enable_test_clock: Annotated[
        bool,
        Setting(
            "enable-test-clock",
            Boolean(),
            "false",
            "For tests: Flush may say what time it is, and nothing is flushed by the clock.",
            "off",
        ),
    ]

    sources: Mapping[str, Source] = field(compare=False, repr=False)
    """By name of a setting, where its value came from."""
    warnings: tuple[str, ...] = field(compare=False, repr=False)
    """What is allowed but unwise, a sentence each."""
    read_again: Callable[[], Settings] = field(compare=False, repr=False)
    """Read the same flags, environment and file once more, for a reload. Raises SettingsError."""

    @property
    def tls(self) -> Tls | None:
        """What TCP addresses are served with; None: plaintext, which is for loopback only."""
        if self.tls_cert is None or self.tls_key is None or self.tls_client_ca is None:
            return None
        return Tls(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def admin_address(self) -> Address:
        """Where status, flush and quarantine are served."""
        return self.admin_listen or self.listen[0]

    @property
    def naming(self) -> Naming | None:
        """Which app an access log's entry tells of; None: access logs are not taken."""
        naming = Naming(
            self.als_user,
            self.als_workspace,
            self.als_agent,
            self.als_access_method,
            self.als_slug_or_port,
            self.als_host_pattern,
            self.als_namespace,
        )
        return naming if naming.origins else None

    @property
    def report_interval_seconds(self) -> float:
        """`report_interval_us` as the library's waits take it."""
        return self.report_interval_us / SECOND_US

    @property
    def flush_timeout_seconds(self) -> float:
        """`flush_timeout_us` as the library's waits take it."""
        return self.flush_timeout_us / SECOND_US

    def rules(self) -> Rules:
        """What the collector goes by."""
        return Rules(
            window_us=self.rollup_window_us,
            client_grace_us=self.client_grace_us,
            client_retention_us=self.client_retention_us,
            session_timeout_us=self.session_timeout_us,
            max_session_age_us=self.max_session_age_us,
            max_clock_skew_us=self.max_clock_skew_us,
            log_timeout_us=self.session_timeout_us or 3 * self.als_interval_us,
        )

    def changed(self, new: Settings) -> list[Setting]:
        """The settings whose values differ in `new`; `Setting.reloads` says which of them need no restart."""
        return [row for row in TABLE if getattr(self, FIELDS[row.name]) != getattr(new, FIELDS[row.name])]


def _table() -> dict[str, Setting]:
    """By field of `Settings`, what its annotation says of it."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}


_BY_FIELD: Final = _table()
TABLE: Final = tuple(_BY_FIELD.values())
"""All settings, in the order in which they are shown."""
FIELDS: Final = {row.name: name for name, row in _BY_FIELD.items()}
"""By name of a setting, its field in `Settings`."""
