"""`appstatsd prune`: remove old rows from the database by hand."""

from __future__ import annotations

import click

from appstatsd.cli import exits
from appstatsd.cli.options import SettingsCommand, with_settings
from appstatsd.settings import Settings
from appstatsd.values import Duration

_AGE = Duration("1h", "36500d")


def _age_us(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    try:
        return int(_AGE.parse(text))
    except ValueError:
        raise click.BadParameter(f"{text!r}: allowed is {_AGE.allowed}, such as 90d") from None


@click.command(cls=SettingsCommand)
@click.option(
    "--older-than",
    "age_us",
    required=True,
    metavar="DURATION",
    callback=_age_us,
    help=f"Remove rows that ended longer ago than this. Allowed: {_AGE.allowed}.",
)
@click.option("--dry-run", is_flag=True, help="Count them and remove nothing.")
@with_settings(("database-url", "database-url-file"))
def prune(settings: Settings, age_us: int, dry_run: bool) -> int:
    """Remove old rows from the database.

    In small transactions, while daemons write; each is committed when it is told of, so an interrupted run can be
    done again. Rows of sessions that go on have no age. The age is measured by the database's clock.
    """
    if settings.database_url is None:
        text = (
            "--database-url is not set; for the embedded PostgreSQL, give the database_url of `appstatsd status --json`"
        )
        raise click.UsageError(text)
    from appstatsd.store.removal import OldRows
    from appstatsd.store.writer import PostgresReporter

    rows = tenths = 0
    with PostgresReporter(settings.database_url.text, pool_min_size=0, pool_max_size=1) as store:
        old = OldRows(store.connection, age_us)
        for progress in old.count() if dry_run else old.remove():
            rows += progress.rows
            if progress.pages * 10 // progress.of_pages > tenths:
                tenths = progress.pages * 10 // progress.of_pages
                click.echo(f"{tenths * 10:3} % of the table, {rows:,} rows so far", err=True)
    click.echo(f"{rows:,} rows {'would be removed' if dry_run else 'removed'}")
    return exits.OK
