from __future__ import annotations

import pytest

from tests.support.told import Told


@pytest.fixture
def told() -> Told:
    return Told()
