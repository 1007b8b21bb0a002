"""A disk in memory that knows what a loss of power may leave, and that fails where it is told to.

What it takes a disk to do:
- A write is on the disk after a sync of its file. Until then each of its blocks is there or not, whatever became of its
  neighbours, or torn: one half new, one half old. The file's size is any that it had or passed on its way.
- A created, renamed or removed name is on the disk after a sync of the folder. Until then each of these changes is there
  or not, whatever became of the others; a rename is there whole or not at all. The folder itself needs a sync of its
  parent.
- A sync that failed leaves each block there or not; the pages count as clean, so that no later sync writes them.
- A process that dies leaves all that it wrote to be read; only a loss of power takes the rest.

Names that end in `.new` are never opened to read (the model insists), so that what is in them makes no difference and
is not enumerated.
"""

from __future__ import annotations

import errno
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Image = dict[str, bytes]
"""What a machine finds after a loss of power: contents by name."""

Site = tuple[str, int]
"""File and line of a call."""

UNREAD = ".new"


@dataclass(eq=False)
class Inode:
    """One file's bytes."""

    cache: bytearray = field(default_factory=bytearray)
    """What a read sees."""
    durable: bytes = b""
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    """Since the last sync: offset and bytes."""
    sizes: set[int] = field(default_factory=set)
    """Since the last sync: to which the file was cut."""
    stuck: bool = False
    """A sync failed: what it did not write will never be written."""


@dataclass(frozen=True)
class Change:
    """Of one name, or of two: a rename takes `gone` away and puts `name` there."""

    name: str | None
    inode: Inode | None
    gone: str | None

    def apply(self, entries: dict[str, Inode]) -> None:
        if self.gone:
            entries.pop(self.gone, None)
        if self.name and self.inode:
            entries[self.name] = self.inode


class ModelDisk:
    """One folder. Stands in for `Files`."""

    where = "/model"
    block_bytes = 64
    ahead_bytes = 256

    def __init__(self, image: Image | None = None) -> None:
        """Empty, not even the folder there; or as a loss of power left it."""
        self.there_for_good = image is not None
        self.entries = {name: Inode(bytearray(content), content) for name, content in (image or {}).items()}
        self.durable_entries = dict(self.entries)
        self.changes: list[Change] = []
        self.sites: dict[Site, int] = {}
        """From where syncs were called, and how often."""
        self.skip: Callable[[Site, int], bool] = lambda _site, _nth: False
        """Is the nth sync from here to do nothing?"""
        self.before_call: Callable[[str], None] = lambda _what: None
        """Hears what is about to be changed or made safe; may raise, and then it is not done, or half of it."""
        self.after_call: Callable[[], None] = lambda: None
        """Called when it is done."""

    # What the journal calls.

    def make_folder(self) -> None: ...

    def sync_parents(self) -> None:
        self._sync("sync of the parents", lambda: setattr(self, "there_for_good", True))

    def lock(self) -> None: ...

    def close(self) -> None: ...

    def names(self) -> list[str]:
        return list(self.entries)

    def size(self, name: str) -> int:
        return len(self.entries[name].cache)

    def create(self, name: str) -> ModelFile:
        if name in self.entries:
            raise FileExistsError(errno.EEXIST, name)
        inode = Inode()
        self._change(f"create {name}", Change(name, inode, None))
        return ModelFile(self, name, inode)

    def open(self, name: str) -> ModelFile:
        assert not name.endswith(UNREAD), "nothing unfinished is read"
        return ModelFile(self, name, self.entries[name])

    def truncate(self, name: str, size: int) -> None:
        self.before_call(f"truncate {name}")
        inode = self.entries[name]
        inode.sizes.add(size)
        del inode.cache[size:]
        self.after_call()

    def rename(self, name: str, to: str) -> None:
        self._change(f"rename {name}", Change(to, self.entries[name], name))

    def unlink(self, name: str) -> None:
        self._change(f"unlink {name}", Change(None, None, name))

    def sync_folder(self) -> None:
        def done() -> None:
            self.durable_entries = dict(self.entries)
            self.changes = []

        self._sync("sync of the folder", done)

    def _change(self, what: str, change: Change) -> None:
        self.before_call(what)
        change.apply(self.entries)
        self.changes.append(change)
        self.after_call()

    def _sync(self, what: str, done: Callable[[], None]) -> None:
        """Called by what the journal called: its caller is two frames up."""
        caller = sys._getframe(2)
        site = Path(caller.f_code.co_filename).name, caller.f_lineno
        self.sites[site] = nth = self.sites.get(site, 0) + 1
        self.before_call(what)
        if not self.skip(site, nth):
            done()
        self.after_call()

    # What a loss of power may leave.

    def images(self) -> Iterator[Image]:
        """Every one, some of them more than once."""
        if not self.there_for_good:
            yield {}
        for kept in itertools.product((False, True), repeat=len(self.changes)):
            entries = dict(self.durable_entries)
            for change in itertools.compress(self.changes, kept):
                change.apply(entries)
            read = [name for name in entries if not name.endswith(UNREAD)]
            unread = {name: b"" for name in entries if name.endswith(UNREAD)}
            for contents in itertools.product(*(self.contents(entries[name]) for name in read)):
                yield unread | dict(zip(read, contents, strict=True))

    def contents(self, inode: Inode) -> list[bytes]:
        """All that may be in one file."""
        if not inode.writes and not inode.sizes:
            return [inode.durable]
        block = self.block_bytes
        longest = max(len(inode.durable), *(offset + len(data) for offset, data in inode.writes), *inode.sizes, 0)
        longest += -longest % block
        sizes = {*range(len(inode.durable), longest + 1, block), *inode.sizes, len(inode.cache)}
        versions = [inode.durable.ljust(longest, b"\0")]
        for offset, data in inode.writes:
            versions.append(versions[-1][:offset] + data + versions[-1][offset + len(data) :])
        choices = [_block_states([version[at : at + block] for version in versions]) for at in range(0, longest, block)]
        wholes = [b"".join(blocks) for blocks in itertools.product(*choices)]
        return list(dict.fromkeys(whole[:size] for whole in wholes for size in sorted(sizes)))


def _block_states(versions: list[bytes]) -> list[bytes]:
    """A block as it was, as it is, as it was in between, and torn at its middle, either half new."""
    states = list(dict.fromkeys(versions))
    half = len(states[0]) // 2
    torn = [old[:half] + new[half:] for old, new in itertools.permutations(states, 2)]
    return list(dict.fromkeys(states + torn))


class ModelFile:
    """Stands in for `File`."""

    def __init__(self, disk: ModelDisk, name: str, inode: Inode) -> None:
        self._disk = disk
        self._name = name
        self._inode = inode

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        try:
            self._disk.before_call(f"write {self._name}")
        except BaseException:
            # Whoever fails or is killed in a write has written a part of it.
            self._put(offset, bytes(data[: len(data) // 2]))
            raise
        self._put(offset, bytes(data))
        self._disk.after_call()

    def _put(self, offset: int, data: bytes) -> None:
        inode = self._inode
        inode.cache.extend(bytes(max(offset + len(data) - len(inode.cache), 0)))
        inode.cache[offset : offset + len(data)] = data
        inode.writes.append((offset, data))

    def settle(self) -> None: ...

    def sync(self) -> None:
        inode = self._inode

        def done() -> None:
            assert not inode.stuck, "a file whose sync failed is never synced again"
            inode.durable = bytes(inode.cache)
            inode.writes, inode.sizes = [], set()

        try:
            self._disk._sync(f"sync of {self._name}", done)
        except OSError:
            inode.stuck = True
            raise

    def read(self, offset: int, into: memoryview) -> int:
        part = self._inode.cache[offset : offset + len(into)]
        into[: len(part)] = part
        return len(part)

    def size(self) -> int:
        return len(self._inode.cache)

    def close(self) -> None: ...
