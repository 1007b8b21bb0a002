"""`appstatsd check-config`: which settings would be in force, and where does each come from?"""

from __future__ import annotations

import click

from appstatsd.cli import exits
from appstatsd.cli.options import SettingsCommand, value_shown, with_settings
from appstatsd.settings import TABLE, Settings


@click.command("check-config", cls=SettingsCommand)
@with_settings()
def check_config(settings: Settings) -> int:
    """Print all settings and where each came from.

    They are what `appstatsd serve` would run with. Exit status 2, and one line, where a setting is wrong. What is
    allowed but unwise is printed as a warning.
    """
    rows = [(row.name, value_shown(settings, row), settings.sources[row.name].where) for row in TABLE]
    names = max(len(name) for name, _, _ in rows)
    values = max(len(value) for _, value, _ in rows)
    for name, value, where in rows:
        click.echo(f"{name:<{names}}  {value:<{values}}  {where}")
    for warning in settings.warnings:
        click.echo(f"appstatsd: warning: {warning}", err=True)
    return exits.OK
