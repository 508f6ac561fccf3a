"""What a process counts, where the other processes of its host can read it, and where its death leaves it.

A tally is a pair of numbers under a key: a kind and some labels. Each process writes to the file of its slot, which is
mapped into memory: a count is two numbers written there, and needs no call of the system. A process that was not told
to share counts in its own memory, and so does one that cannot.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog
from prometheus_client.mmap_dict import MmapedDict

from healthcheck.metrics.slots import Slots

log = structlog.get_logger("healthcheck")

FILE_BYTES = 1 << 20
LONGEST_KEY = 1000  # characters
# How many keys of a kind a process may make; what comes later is counted under the key that it names for that.
MOST_KEYS = {"statement": 200, "slowest": 200, "failure": 200, "request": 500, "bucket": 1500}
MOST_OTHER_KEYS = 100
Pair = tuple[float, float]
Keys = tuple[str, str]  # the key, and the one to use instead when there are too many of its kind
Counts = dict[tuple[str, ...], list[Pair]]
_File: Any = MmapedDict  # it has no types


def key_of(kind: str, *labels: str) -> str:
    return json.dumps([kind, *labels], ensure_ascii=False)


class _Store(Protocol):
    def read_value(self, key: str) -> Pair: ...
    def write_value(self, key: str, value: float, timestamp: float) -> None: ...
    def close(self) -> None: ...


class _Memory(dict[str, Pair]):
    """What `MmapedDict` does, without a file."""

    def read_value(self, key: str) -> Pair:
        return self.get(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        self[key] = value, timestamp

    def close(self) -> None:
        pass


class Tallies:
    """All that this process counts. Safe to use by several threads and after a fork."""

    def __init__(self) -> None:
        self._slots: Slots | None = None
        self._store: _Store | None = None
        self._forget_parent()
        os.register_at_fork(after_in_child=self._forget_parent)

    def share(self, directory: Path) -> None:
        """Count in files of `directory` from now on. What this process has counted before is not taken along."""
        with self._lock:
            if self._slots is None or self._slots.directory != directory:
                self._close()
                self._slots = Slots(directory)
            self._opened()

    def keep_to_oneself(self) -> None:
        """Count in memory from now on, beginning with nothing."""
        with self._lock:
            self._close()
            self._slots = None

    @property
    def directory(self) -> Path | None:
        """Where this process counts together with others, if it does."""
        return self._slots.directory if self._slots else None

    def add(self, key: str, otherwise: str, count: float = 1.0, total: float = 0.0) -> None:
        """Add to both numbers of `key`, or of `otherwise` when there are too many keys of its kind."""
        with self._lock:
            store = self._store or self._opened()
            if key not in self._keys:
                key = self._known(key, otherwise)
            first, second = store.read_value(key)
            store.write_value(key, first + count, second + total)

    def took(self, times: Keys, slowest: Keys, seconds: float, period: float) -> None:
        """Count one under `times`, and under `slowest` keep the highest value of a period, with the period."""
        with self._lock:
            store = self._store or self._opened()
            key = times[0] if times[0] in self._keys else self._known(*times)
            count, total = store.read_value(key)
            store.write_value(key, count + 1.0, total + seconds)
            key = slowest[0] if slowest[0] in self._keys else self._known(*slowest)
            highest, of_period = store.read_value(key)
            if seconds > highest or period > of_period:
                store.write_value(key, seconds, period)

    def of_host(self) -> Counts:
        """Return all keys, kind first, with the pair of each process that has one."""
        found: Counts = defaultdict(list)
        with self._lock:
            store = self._opened()
            entries: Iterable[tuple[str, Pair]] = list(store.items()) if isinstance(store, _Memory) else ()
        if self._slots is not None and not entries:
            entries = _entries(self._slots.files())
        for key, pair in entries:
            found[tuple(json.loads(key))].append(pair)
        return found

    def _known(self, key: str, otherwise: str) -> str:
        """Return which of the two may be used, and remember that it is."""
        kind = json.loads(key)[0]
        if self._of_kind[kind] >= MOST_KEYS.get(kind, MOST_OTHER_KEYS) or len(key) > LONGEST_KEY:
            key = otherwise
        if key not in self._keys:
            self._remember(key)
        return key

    def _remember(self, key: str) -> None:
        self._keys.add(key)
        self._of_kind[json.loads(key)[0]] += 1

    def _opened(self) -> _Store:
        if self._store is None:
            self._store = self._file() or _Memory()
        return self._store

    def _file(self) -> _Store | None:
        """Open the file of this process's slot; None when there is none, for the site is worth more than figures."""
        if self._slots is None:
            return None
        try:
            store = _opened(self._slots.mine())
        except OSError as error:
            log.warning("metrics.not_shared", directory=str(self._slots.directory), error=str(error))
            self._slots.release()
            return None
        for key, _first, _second in store.read_all_values():  # what the slot's last owner has counted
            self._remember(key)
        file: _Store = store
        return file

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
        if self._slots is not None:
            self._slots.release()
        self._forget()

    def _forget_parent(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        if self._slots is not None:
            self._slots.release()
        self._forget()

    def _forget(self) -> None:
        self._store = None
        self._keys: set[str] = set()
        self._of_kind: dict[str, int] = defaultdict(int)


def _opened(path: Path) -> Any:
    """Open a file with all the disk that it will need: a hole in what is mapped into memory would, on a full disk,
    kill the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size < FILE_BYTES and os.pwrite(descriptor, bytes(FILE_BYTES - size), size) < FILE_BYTES - size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
    try:
        return _File(str(path))
    except (RuntimeError, ValueError) as error:
        path.unlink()
        raise OSError(f"{path.name} was damaged: {error}") from error


def _entries(paths: Sequence[Path]) -> Iterator[tuple[str, Pair]]:
    for path in paths:
        try:
            for key, first, second, _position in _File.read_all_values_from_file(str(path)):
                yield key, (first, second)
        except (OSError, RuntimeError, ValueError):
            log.warning("metrics.unreadable", file=path.name)


tallies = Tallies()
