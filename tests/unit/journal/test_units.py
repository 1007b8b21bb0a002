from __future__ import annotations

import errno

import pytest
from appstatsd.journal.units import HEADER_BYTES, Broken, Unit, encode, walk
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.journal.model_disk import Inode, ModelDisk, ModelFile

NONCE = 0xFEED
BLOCK = 64


def file_of(content: bytes) -> ModelFile:
    return ModelFile(ModelDisk(), "file", Inode(bytearray(content), content))


def parts(content: bytes, nonce: int = NONCE) -> list[Unit | Broken]:
    return list(walk(file_of(content), nonce, BLOCK))


def unit(number: int, offset: int, *records: bytes) -> bytes:
    return bytes(encode([[record] for record in records], number, NONCE, offset, BLOCK))


def row(count: int) -> bytes:
    content = b""
    for number in range(1, count + 1):
        content += unit(number, len(content), b"record of %d" % number)
    return content


@given(st.lists(st.lists(st.binary(max_size=200), max_size=5)), st.integers(1, 2**60))
def test_records_come_back_as_they_were_whatever_parts_they_came_in(records: list[list[bytes]], number: int) -> None:
    content = bytes(encode(records, number, NONCE, 0, BLOCK))
    assert len(content) % BLOCK == 0
    (read,) = parts(content)
    assert isinstance(read, Unit)
    assert (read.number, read.offset, read.end) == (number, 0, len(content))
    assert [bytes(record) for record in read.records] == [b"".join(record) for record in records]


def test_a_unit_begins_on_a_block_so_that_no_write_touches_a_block_of_another() -> None:
    assert [part.offset % BLOCK for part in parts(row(3))] == [0, 0, 0]


def test_zeros_to_the_end_are_space_prepared() -> None:
    assert len(parts(row(2) + bytes(5 * BLOCK))) == 2
    assert parts(bytes(BLOCK)) == []
    assert parts(b"") == []


def test_anything_else_at_the_end_is_broken() -> None:
    content = row(2)
    assert parts(content + bytes(100) + b"x")[2] == Broken(len(content), len(content) + 101, None)


@pytest.mark.parametrize("other", [NONCE + 1, 0])
def test_a_unit_of_another_segment_does_not_pass(other: int) -> None:
    assert [type(part) for part in parts(row(2), other)] == [Broken]


def test_a_unit_copied_to_another_place_does_not_pass() -> None:
    first = unit(1, 0, b"a")
    assert [type(part) for part in parts(first + first)] == [Unit, Broken]


def test_a_unit_within_a_record_does_not_pass_for_a_unit_when_the_one_around_it_is_broken() -> None:
    # What a client might send, who does not know the nonce.
    forged = encode([[b"forged"]], 2, 0, BLOCK, BLOCK)
    around = bytearray(unit(1, 0, bytes(BLOCK - HEADER_BYTES - 4) + forged))
    around[0] ^= 1
    content = bytes(around) + unit(2, len(around), b"later")
    assert [part.number for part in parts(content)] == [None, 2]


def test_a_whole_header_says_where_the_next_unit_begins_though_its_payload_is_broken() -> None:
    content = bytearray(row(3))
    content[content.index(b"record of 2")] ^= 1
    broken = parts(bytes(content))[1]
    assert isinstance(broken, Broken)
    assert broken.number == 2
    assert [part.number for part in parts(bytes(content))] == [1, 2, 3]


def test_a_broken_header_is_passed_over_to_the_next_whole_one() -> None:
    content = bytearray(row(3))
    content[content.index(b"ASJ1", 1)] ^= 1
    assert [part.number for part in parts(bytes(content))] == [1, None, 3]


def test_a_place_that_the_disk_cannot_read_is_broken_and_the_rest_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(row(3))
    bad = len(unit(1, 0, b"record of 1"))
    read = file.read

    def failing(offset: int, into: memoryview) -> int:
        if offset <= bad < offset + len(into):
            raise OSError(errno.EIO, "I/O error")
        return read(offset, into)

    monkeypatch.setattr(file, "read", failing)
    assert [part.number for part in walk(file, NONCE, BLOCK)] == [1, None, 3]


def test_another_error_of_the_disk_is_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(row(1))

    def failing(_offset: int, _into: memoryview) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(file, "read", failing)
    with pytest.raises(OSError, match="no memory"):
        list(walk(file, NONCE, BLOCK))


def test_a_length_beyond_the_file_is_not_believed() -> None:
    content = row(2)
    short = content[: len(unit(1, 0, b"record of 1")) + HEADER_BYTES]
    assert [type(part) for part in parts(short)] == [Unit, Broken]
