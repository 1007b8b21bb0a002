from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from appstatsd.loading import kept_for_good


@pytest.fixture(autouse=True)
def collector_as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_nothing_is_collected_meanwhile_and_what_is_alive_then_is_never_looked_through() -> None:
    with kept_for_good():
        assert not gc.isenabled()
        loaded: list[list[object]] = [[]]
    assert gc.isenabled()
    assert not any(each is loaded for each in gc.get_objects())


def test_one_within_another_leaves_it_to_the_outer_one() -> None:
    with kept_for_good():
        with kept_for_good():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_runs_again_after_what_could_not_be_loaded() -> None:
    with pytest.raises(ImportError), kept_for_good():
        raise ImportError
    assert gc.isenabled()


def test_where_the_collector_is_off_it_stays_off() -> None:
    gc.disable()
    with kept_for_good():
        pass
    assert not gc.isenabled()
