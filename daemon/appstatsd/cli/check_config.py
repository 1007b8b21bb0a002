"""`appstatsd check-config`: which settings would be in force, and where does each come from?"""

from __future__ import annotations

import click

from appstatsd.cli import exits
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.settings import TABLE, Settings


@click.command("check-config", cls=SettingsCommand)
@with_settings()
def check_config(settings: Settings) -> int:
    """Print all settings and where each came from.

    They are what `appstatsd serve` would run with. Exit status 2, and one line, where a setting is wrong. What is
    allowed but unwise is printed as a warning.
    """
    sources = [settings.sources[row.name] for row in TABLE]
    shown = [source.text or row.default_shown for row, source in zip(TABLE, sources, strict=True)]
    names, values = max(len(row.name) for row in TABLE), max(map(len, shown))
    for row, value, source in zip(TABLE, shown, sources, strict=True):
        click.echo(f"{row.name:<{names}}  {value:<{values}}  {source.where}")
    for warning in settings.warnings:
        click.echo(f"appstatsd: warning: {warning}", err=True)
    return exits.OK
