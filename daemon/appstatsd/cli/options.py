"""How do settings become options of a command?

All options are made from the table of settings and are text to click: what is allowed is checked in one place for all
sources. A command's function is called with the `Settings` first.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from appstatsd.cli.sources import CONFIG_VARIABLE, Host, read
from appstatsd.loading import kept_for_good
from appstatsd.settings import FIELDS, TABLE
from appstatsd.values import Boolean, Choice, FilePath, Setting

Command: TypeAlias = Callable[..., int]

REACHING_A_DAEMON: Final = ("listen", "admin-listen", "tls-cert", "tls-key", "tls-client-ca", "flush-timeout")
"""The settings of commands that talk to a daemon."""


class SettingsCommand(click.Command):
    """A command whose help lists the settings under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the settings."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        headings = _headings()
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                sections.setdefault(headings.get(option.name or "", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def with_settings(only: Collection[str] | None = None) -> Callable[[Callable[..., int]], Command]:
    """Give a command options for all settings, or for `only` those named, and call it with what is in force."""
    rows = [row for row in TABLE if only is None or row.name in only]

    def decorate(command: Callable[..., int]) -> Command:
        @functools.wraps(command)
        def run(*, config: str | None, **arguments: Any) -> int:
            flags = {} if config is None else {"config": (config,)}
            for row in rows:
                given = arguments.pop(FIELDS[row.name])
                if given not in (None, ()):
                    flags[row.name] = given if row.repeatable else (_text(given),)
            host = Host(os.getuid(), sys.stderr.isatty())
            with kept_for_good():  # libpq, which reads a database's URL, is loaded for it
                settings = read(flags, dict(os.environ), host, only=only)
            return command(settings, **arguments)

        decorated: Command = run
        for row in reversed(rows):
            decorated = _option(row)(decorated)
        return click.option(
            "--config", metavar="PATH", help=f"TOML file with settings. Environment: {CONFIG_VARIABLE}."
        )(decorated)

    return decorate


def _text(given: str | bool) -> str:
    return given if isinstance(given, str) else str(given).lower()


def _option(row: Setting) -> Callable[[Command], Command]:
    if isinstance(row.kind, Boolean):
        names = f"{row.flag}/--no-{row.name}"
        return click.option(names, FIELDS[row.name], default=None, help=f"{row.help} Default: {row.default_shown}.")
    allowed = "" if isinstance(row.kind, FilePath) else f" Allowed: {row.kind.allowed}."
    return click.option(
        row.flag,
        FIELDS[row.name],
        metavar=row.kind.metavar,
        multiple=row.repeatable,
        help=f"{row.help}{allowed} Default: {row.default_shown}.",
        shell_complete=functools.partial(_complete, row),
    )


def _complete(row: Setting, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell offers for a setting's value."""
    if isinstance(row.kind, FilePath):
        return [CompletionItem(incomplete, type="file")]
    words = row.kind.words if isinstance(row.kind, Choice) else ()
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _headings() -> dict[str, str]:
    """By field of a setting, the heading that it stands under."""
    headings = {}
    heading = ""
    for row in TABLE:
        heading = row.heading or heading
        headings[FIELDS[row.name]] = heading
    return headings
