"""In which ways is activity told, as the settings have it?"""

from __future__ import annotations

from collections.abc import Callable

from appstatsd.activity.notices import Teller
from appstatsd.settings import Settings


def tellers(settings: Settings, own_url: Callable[[], str]) -> list[Teller]:
    """One for each way that is on; none by default.

    Args:
        settings: Those in force.
        own_url: The embedded database's URL, for where none is set; empty until it runs.
    """
    seconds = settings.report_interval_seconds
    found = []
    # A way that is off is not loaded: HTTP's library alone is 1 MiB.
    if settings.activity_notify:
        from appstatsd.activity.notify import PostgresNotify

        url = settings.database_url
        tell = PostgresNotify(own_url if url is None else lambda: url.text)
        found.append(Teller("notify", tell, seconds))
    if settings.activity_hook is not None:
        from appstatsd.activity.hook import HttpHook

        found.append(Teller("hook", HttpHook(settings.activity_hook), seconds))
    return found
