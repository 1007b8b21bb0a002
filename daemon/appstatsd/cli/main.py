"""Where a command line becomes a command, and what went wrong becomes one line and an exit status.

Invariant: nobody who types a command sees a traceback, and no process list shows a password for longer than it takes to
start.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from appstatsd.cli import exits
from appstatsd.errors import AppstatsdError
from appstatsd.loading import kept_for_good
from appstatsd.settings import SettingsError

_HIDDEN_URL: Final = "_APPSTATSD_HIDDEN_DATABASE_URL"
_LIKE_A_PASSWORD: Final = re.compile(r"//[^/?#@]*:.*@|password", re.IGNORECASE)


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
    """The commands; the module of one is loaded when it is asked for, so that none waits for what another needs."""

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


def main() -> int:
    """Run the command that the process was started with; the exit status."""
    try:
        _hide_password()
        result = cli.main(prog_name="appstatsd", standalone_mode=False)
        return result if isinstance(result, int) else exits.OK
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return exits.WRONG
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "appstatsd"
        return _say(f"{error.format_message()} (see `{command} --help`)", exits.WRONG)
    except click.Abort:
        return _say("interrupted", exits.INTERRUPTED)
    except SettingsError as error:
        return _say(str(error), exits.WRONG)
    except exits.Failed as error:
        return _say(str(error), error.status)
    except AppstatsdError as error:
        return _say(str(error), exits.FAILED)
    except Exception as error:  # The main thread's outermost frame.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return _say(f"this is a bug, please report it: {type(error).__name__} at {where}: {error}", exits.FAILED)


def _say(text: str, status: int) -> int:
    click.echo(f"appstatsd: {' '.join(text.split())}", err=True)
    return status


def _hide_password() -> None:
    """Start anew with a database URL out of the process list, where everybody could read its password."""
    place = _place_of_url(sys.argv)
    if place is None:
        return
    before, url = place
    hidden = os.environ.pop(_HIDDEN_URL, None)
    if hidden is not None:
        sys.argv[before] = sys.argv[before].removesuffix("***") + hidden
    elif _LIKE_A_PASSWORD.search(url):
        own = len(sys.orig_argv) - len(sys.argv)
        arguments = list(sys.orig_argv)
        arguments[own + before] = arguments[own + before].removesuffix(url) + "***"
        os.execve(sys.executable, arguments, {**os.environ, _HIDDEN_URL: url})  # noqa: S606


def _place_of_url(arguments: Sequence[str]) -> tuple[int, str] | None:
    """Which argument holds --database-url's value, and the value; the last one, as it is what counts."""
    found = None
    for place, argument in enumerate(arguments):
        if argument.startswith("--database-url="):
            found = place, argument.removeprefix("--database-url=")
        elif argument == "--database-url" and place + 1 < len(arguments):
            found = place + 1, arguments[place + 1]
    return found
