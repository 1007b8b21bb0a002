"""`appstatsd migrate`: bring the database's tables up to date."""

from __future__ import annotations

import click

from appstatsd.cli import exits
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.settings import Settings


@click.command(cls=SettingsCommand)
@click.option(
    "--usage-views",
    is_flag=True,
    help="Make the views that `usage` and `who` read also beside a table that appstatsd did not make.",
)
@with_settings(("database-url", "database-url-file"))
def migrate(settings: Settings, usage_views: bool) -> int:
    """Bring the tables of the database up to date.

    Safe to be run from many hosts at once. A table that appstatsd did not make is never altered; what would serve it
    better is printed as advice.
    """
    if settings.database_url is None:
        text = (
            "--database-url is not set, and the embedded PostgreSQL is brought up to date by `appstatsd serve` itself"
        )
        raise click.UsageError(text)
    from appstatsd.store.migrate import migrate as bring_up_to_date

    migrated = bring_up_to_date(settings.database_url.text, usage_views=usage_views)
    for name in migrated.applied:
        click.echo(f"applied {name}")
    for advice in migrated.advice:
        click.echo(f"advice: {advice}", err=True)
    if not migrated.applied:
        click.echo("nothing to do: the tables are up to date, or not ours")
    return exits.OK
