"""Fixtures: real daemon processes, as the system's tests have them."""

from __future__ import annotations

from tests.system.conftest import new_daemon

__all__ = ["new_daemon"]
