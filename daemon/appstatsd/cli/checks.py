"""Do the settings fit each other and this host, and which of them are allowed but unwise?"""

from __future__ import annotations

from typing import Final

from appstatsd import certificates
from appstatsd.accesslog.naming import METHODS, id_of
from appstatsd.accesslog.origins import Constant, InHost
from appstatsd.addresses import TcpAddress
from appstatsd.certificates import CertificatesUnfit
from appstatsd.settings import Settings, SettingsError

_MINUTE_US: Final = 60_000_000
_LEAST_RETENTION_US: Final = 60 * _MINUTE_US
"""So that nobody who forgets a unit loses all rows."""


def check(settings: Settings) -> None:
    """See whether the settings fit each other.

    Raises:
        SettingsError: two of them exclude each other, or a file that they name does not serve.
    """
    _check_addresses(settings)
    _check_tls(settings)
    _check_order(settings)
    check_access_logs(settings)
    if 0 < settings.retention_us < _LEAST_RETENTION_US:
        raise SettingsError("retention", settings.sources["retention"], "allowed is 0s (off), or a duration from 1h on")


def unwise(settings: Settings) -> list[str]:
    """What is allowed but likely to be regretted, a sentence each."""
    found = []

    def add(name: str, why: str) -> None:
        source = settings.sources[name]
        found.append(f"setting {name} ({source.where}) is {source.text}: {why}")

    if settings.rollup_window_us != _MINUTE_US:
        add("rollup-window", "readers that count the minutes that rows touch count too many; 1m is what they expect")
    if settings.report_interval_us > 4 * _MINUTE_US:
        add("report-interval", "workspaces in use may look idle for so long; at most 4m is advised")
    if settings.client_grace_us > 60 * _MINUTE_US:
        add("client-grace", "sessions of a client that died seem in use for so long; at most 1h is advised")
    if settings.naming is not None and settings.als_interval_us > settings.client_grace_us:
        add("als-interval", "after a restart a connection that goes on is logged too late for its --client-grace")
    if settings.metrics_listen is not None and not settings.metrics_listen.loopback:
        add("metrics-listen", "other hosts can read the metrics, without TLS or a password; 127.0.0.1 is advised")
    if settings.enable_test_clock:
        add("enable-test-clock", "rows are written only when Flush is called, and it may say what time it is")
    return found


def _check_addresses(settings: Settings) -> None:
    listen = settings.sources["listen"]
    if len(set(settings.listen)) < len(settings.listen):
        raise SettingsError("listen", listen, "an address stands there twice; allowed is each once")
    if settings.admin_listen in settings.listen:
        admin = settings.sources["admin-listen"]
        raise SettingsError("admin-listen", admin, f"allowed is an address that is not in listen ({listen.where})")
    if settings.tls is not None:
        return
    for name, addresses in (("listen", settings.listen), ("admin-listen", (settings.admin_listen,))):
        for address in addresses:
            if isinstance(address, TcpAddress) and not address.loopback:
                wrong = (
                    f"{address} can be reached from other hosts, which is allowed only with tls-cert, tls-key and "
                    "tls-client-ca; else allowed are unix:PATH and loopback addresses"
                )
                raise SettingsError(name, settings.sources[name], wrong)


def _check_tls(settings: Settings) -> None:
    files = {"tls-cert": settings.tls_cert, "tls-key": settings.tls_key, "tls-client-ca": settings.tls_client_ca}
    missing = [name for name, path in files.items() if path is None]
    for name, path in files.items():
        if path is not None and missing:
            raise SettingsError(name, settings.sources[name], f"{' and '.join(missing)} must be set too")
    if settings.tls is not None:
        try:
            certificates.read(settings.tls)
        except CertificatesUnfit as error:
            raise SettingsError(error.setting, settings.sources[error.setting], str(error)) from None


def _check_order(settings: Settings) -> None:
    """Some values must not be larger than others."""
    for smaller, small, larger, large in (
        ("pool-min-size", settings.pool_min_size, "pool-max-size", settings.pool_max_size),
        ("client-grace", settings.client_grace_us, "client-retention", settings.client_retention_us),
        ("rollup-window", settings.rollup_window_us, "max-session-age", settings.max_session_age_us),
    ):
        if small > large:
            other = settings.sources[larger]
            wrong = f"allowed is at most {larger}, which is {other.text} ({other.where})"
            raise SettingsError(smaller, settings.sources[smaller], wrong)


def check_access_logs(settings: Settings) -> None:
    """See whether what is set of access logs is whole.

    Raises:
        SettingsError: a name has no origin, or one that can give none.
    """
    naming = settings.naming
    if naming is None:
        return
    ids = {"als-user": naming.user, "als-workspace": naming.workspace, "als-agent": naming.agent}
    names = {**ids, "als-access-method": naming.access_method, "als-slug-or-port": naming.slug_or_port}
    terminals = naming.access_method == (Constant("terminal"),)
    for name, origins in names.items():
        source = settings.sources[name]
        if not origins and not (terminals and name == "als-slug-or-port"):
            wrong = "it must be set where another --als-* names an origin; access logs need all names of an app"
            raise SettingsError(name, source, wrong)
        for origin in origins:
            if isinstance(origin, InHost) and (
                naming.host_pattern is None or origin.name not in naming.host_pattern.names
            ):
                raise SettingsError(name, source, f"als-host-pattern must be set and hold {{{origin.name}}}")
            if not isinstance(origin, Constant):
                continue
            if name in ids and id_of(origin.value, naming.namespace) is None:
                raise SettingsError(name, source, "the constant must be a UUID, or als-namespace must be set too")
            if name == "als-access-method" and origin.value not in METHODS:
                raise SettingsError(name, source, f"allowed constants are {', '.join(METHODS)}")
