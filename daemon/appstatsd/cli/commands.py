"""Which commands are there, and where is each of them?

Invariant: the module of a command is loaded when it is asked for, so that none waits for what another needs.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

from appstatsd.loading import kept_for_good

_COMMANDS: Final = {
    "serve": "serve",
    "migrate": "migrate",
    "status": "status",
    "flush": "flush",
    "quarantine": "quarantine",
    "journal": "journal",
    "who": "who",
    "usage": "usage",
    "import": "import_logs",
    "prune": "prune",
    "forget": "forget",
    "check-config": "check_config",
    "demo": "demo",
    "version": "version",
}
"""By name, the module of a command, which is called as its function is."""


class Commands(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as help shows them."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None: there is none."""
        name = _COMMANDS.get(cmd_name)
        if name is None:
            return None
        with kept_for_good():
            command = getattr(importlib.import_module(f"appstatsd.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit status: 0 done, 1 not done, 2 wrong command line or setting, 69 no daemon answers. "
    'Shell completion: eval "$(_APPSTATSD_COMPLETE=bash_source appstatsd)", likewise for zsh and fish.',
)
def cli() -> None:
    """Collect workspace app sessions from reverse proxies and write them to PostgreSQL.

    Settings come from flags, APPSTATSD_* environment variables and a TOML file (--config), in that order, each under
    the same name: --report-interval, APPSTATSD_REPORT_INTERVAL, report-interval.
    """
