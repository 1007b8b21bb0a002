"""In which ways is activity told, as the settings have it?"""

from __future__ import annotations

from collections.abc import Callable

from appstatsd.activity.hook import HttpHook
from appstatsd.activity.notices import Teller
from appstatsd.activity.notify import PostgresNotify
from appstatsd.settings import Settings


def tellers(settings: Settings, own_url: Callable[[], str]) -> list[Teller]:
    """One for each way that is on; none by default.

    Args:
        settings: Those in force.
        own_url: The embedded database's URL, for where none is set; empty until it runs.
    """
    seconds = settings.report_interval_seconds
    found = []
    if settings.activity_notify:
        url = settings.database_url
        tell = PostgresNotify(own_url if url is None else lambda: url.text)
        found.append(Teller("notify", tell, seconds))
    if settings.activity_hook is not None:
        found.append(Teller("hook", HttpHook(settings.activity_hook), seconds))
    return found
