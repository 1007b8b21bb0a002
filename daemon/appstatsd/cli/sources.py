"""Where does the value of each setting come from: a flag, the environment, the TOML file, or the default?

The first of these that names a setting decides. Invariant: nothing is passed over in silence; a value that is not
allowed, a key that is no setting and a file that cannot be read are errors that name their source.

What only a file or a misspelled name needs is imported where it is needed, since every command reads its settings first.
"""

from __future__ import annotations

import pwd
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from appstatsd.cli.checks import check, unwise
from appstatsd.settings import FIELDS, TABLE, Settings, SettingsError
from appstatsd.values import Boolean, Database, Integer, Setting, Source

CONFIG_VARIABLE: Final = "APPSTATSD_CONFIG"
_HIDDEN: Final = "(not shown, as it may hold a password)"

Flags: TypeAlias = Mapping[str, Collection[str]]
"""By name of a setting, the texts given with its flag. `config` is among the names."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the defaults depend on, besides the environment."""

    uid: int
    """Who runs this."""
    terminal: bool
    """Whether standard error is a terminal."""


def read(flags: Flags, environ: Mapping[str, str], host: Host, *, only: Collection[str] | None = None) -> Settings:
    """The settings in force.

    With `only`, the other settings stay at their defaults, and nothing is checked that concerns several settings or
    files on this host: for commands that talk to a daemon, which need no right to read all that it reads.

    Raises:
        SettingsError: a setting is wrong.
    """
    keys, config = _config_file(flags, environ)
    defaults = _defaults(environ, host)
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for row in TABLE:
        wanted = only is None or row.name in only
        texts, where = _given(row, flags, environ, keys, config) if wanted else ((), "")
        if not texts:
            texts, where = defaults.get(row.name, (row.default,) if row.default else ()), "default"
        values[row.name], sources[row.name] = _parse(row, texts, where)
    if values["database-url-file"] is not None:
        values["database-url"], sources["database-url"] = _database_url(values, sources)
    settings = Settings(
        **{FIELDS[name]: value for name, value in values.items()},
        sources=sources,
        warnings=(),
        read_again=partial(read, flags, environ, host, only=only),
    )
    if only is not None:
        return settings
    check(settings)
    return replace(settings, warnings=(*unwise(settings), *_misspelled(environ)))


def _given(
    row: Setting, flags: Flags, environ: Mapping[str, str], keys: Mapping[str, object], config: str
) -> tuple[Collection[str], str]:
    """The texts of a setting and where they are from; none where nobody names it."""
    if flags.get(row.name):
        return flags[row.name], f"flag {row.flag}"
    if variable := environ.get(row.variable):
        parts = variable.replace(",", "\n").splitlines() if row.repeatable else (variable,)
        return [part.strip() for part in parts if part.strip()] or (variable,), f"environment variable {row.variable}"
    if row.name in keys:
        where = f"file {config}, key {row.name}"
        return _texts(row, keys[row.name], where), where
    if row.name == "database-url-file" and (credential := _credential(environ, "database-url")):
        return (str(credential),), "systemd's credential database-url"
    return (), ""


def _credential(environ: Mapping[str, str], name: str) -> Path | None:
    """The file of a credential that the unit hands over; an empty one is what its package makes before anybody fills it."""
    folder = _absolute(environ, "CREDENTIALS_DIRECTORY")
    if folder is None:
        return None
    try:
        return folder / name if (folder / name).stat().st_size else None
    except FileNotFoundError:
        return None
    except OSError:
        return folder / name  # whoever reads it says what is wrong


def _texts(row: Setting, value: object, where: str) -> Collection[str]:
    """What a value of the TOML file would be as a flag."""
    listed: list[object] = value if row.repeatable and isinstance(value, list) and value else [value]
    texts = [part for part in listed if isinstance(part, str)]
    if len(texts) == len(listed):
        return texts
    if isinstance(value, bool) and isinstance(row.kind, Boolean):
        return (str(value).lower(),)
    if isinstance(value, int) and isinstance(row.kind, Integer):
        return (str(value),)
    wanted = "text in quotes, or a list of such" if row.repeatable else "text in quotes"
    shown = _HIDDEN if isinstance(row.kind, Database) else str(value)
    raise SettingsError(row.name, Source(where, shown), f"allowed is {row.kind.allowed}, written as {wanted}")


def _parse(row: Setting, texts: Collection[str], where: str) -> tuple[Any, Source]:
    values = []
    for text in texts:
        try:
            values.append(row.kind.parse(text))
        except ValueError as error:
            shown = _HIDDEN if isinstance(row.kind, Database) else text
            reason = f" ({error})" if str(error) else ""
            raise SettingsError(row.name, Source(where, shown), f"allowed is {row.kind.allowed}{reason}") from None
    source = Source(where, ", ".join(map(str, values if isinstance(row.kind, Database) else texts)))
    if row.repeatable:
        return tuple(values), source
    return (values[-1] if values else None), source


def _database_url(values: Mapping[str, Any], sources: Mapping[str, Source]) -> tuple[Any, Source]:
    """What --database-url-file holds."""
    source = sources["database-url-file"]
    if values["database-url"] is not None:
        other = sources["database-url"].where
        raise SettingsError("database-url-file", source, f"database-url is set too ({other}); allowed is one of them")
    kind = Database()
    try:
        text = values["database-url-file"].read_text().strip()
    except OSError as error:
        raise SettingsError("database-url-file", source, f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    try:
        url = kind.parse(text)
    except ValueError:
        wrong = f"what is in the file is wrong (and not shown); allowed is {kind.allowed}"
        raise SettingsError("database-url-file", source, wrong) from None
    return url, Source(f"file {values['database-url-file']}", str(url))


def _config_file(flags: Flags, environ: Mapping[str, str]) -> tuple[Mapping[str, object], str]:
    """What the TOML file holds, and its path."""
    if given := flags.get("config"):
        path, where = next(iter(given)), "flag --config"
    elif path := environ.get(CONFIG_VARIABLE, ""):
        where = f"environment variable {CONFIG_VARIABLE}"
    else:
        return {}, ""
    import tomllib

    try:
        with Path(path).open("rb") as file:
            keys = tomllib.load(file)
    except OSError as error:
        raise SettingsError("config", Source(where, path), f"the file cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("config", Source(where, path), f"the file is not TOML: {error}") from None
    for name in keys:
        if name not in FIELDS:
            near = _closest(name.replace("_", "-").lower(), FIELDS)
            hint = f"; did you mean {near}?" if near else ""
            wrong = f"there is no such setting{hint} (`appstatsd check-config` lists all)"
            raise SettingsError(name, Source(f"file {path}, key {name}", _HIDDEN), wrong)
    return keys, path


def _misspelled(environ: Mapping[str, str]) -> list[str]:
    """Variables that are no settings but look like one; others are let be, since a cluster sets some of that prefix."""
    known = {row.variable: row for row in TABLE}
    found = []
    for name in environ:
        if name.startswith("APPSTATSD_") and name not in known and name != CONFIG_VARIABLE:
            near = _closest(name, known, cutoff=0.9)
            if near:
                found.append(f"environment variable {name} is no setting and has no effect; did you mean {near}?")
    return found


def _closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """What somebody may have meant who wrote the name; empty where nothing comes near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, n=1, cutoff=cutoff)), "")


def _defaults(environ: Mapping[str, str], host: Host) -> dict[str, tuple[str]]:
    """The defaults that depend on the host."""
    return {
        "listen": (f"unix:{_runtime_dir(environ, host) / 'appstatsd.sock'}",),
        "state-dir": (str(_state_dir(environ, host)),),
        "log-format": ("console" if host.terminal else "json",),
    }


def _runtime_dir(environ: Mapping[str, str], host: Host) -> Path:
    if directories := environ.get("RUNTIME_DIRECTORY"):
        return Path(directories.split(":")[0])
    if base := _absolute(environ, "XDG_RUNTIME_DIR"):
        return base / "appstatsd"
    if host.uid == 0:
        return Path("/run/appstatsd")
    # Not in /tmp, where anybody could have made it before.
    return _state_home(environ, host) / "appstatsd-run"


def _state_dir(environ: Mapping[str, str], host: Host) -> Path:
    if directories := environ.get("STATE_DIRECTORY"):
        return Path(directories.split(":")[0])
    if host.uid == 0:
        return Path("/var/lib/appstatsd")
    return _state_home(environ, host) / "appstatsd"


def _state_home(environ: Mapping[str, str], host: Host) -> Path:
    if base := _absolute(environ, "XDG_STATE_HOME"):
        return base
    try:
        home = environ.get("HOME") or pwd.getpwuid(host.uid).pw_dir
    except KeyError:  # A container may run as a user that it does not know.
        home = "/"
    return Path(home) / ".local" / "state"


def _absolute(environ: Mapping[str, str], name: str) -> Path | None:
    """A base directory; relative ones do not count, as the XDG specification says."""
    path = Path(environ.get(name, ""))
    return path if path.is_absolute() else None
