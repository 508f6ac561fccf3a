"""Where the processes of one host keep their counters: files in one directory, a set of them for each *slot*.

A process takes the first free slot by a lock that ends with it, and goes on counting where the slot's last owner
stopped. So there are never more files than processes that ran at the same time, however often they are recycled, and
nothing that was counted is lost with a process, even a killed one. When none runs, the next one starts from nothing:
what counts from zero again after a restart is what Prometheus expects.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

MOST = 512


class Slots:
    """The slots of one directory, and which of them this process has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._number: int | None = None
        self._descriptor: int | None = None

    def mine(self) -> Path:
        """Return the file of this process's slot, which it takes at the first call; raises OSError."""
        if self._number is None:
            self._take()
        return self.directory / f"slot-{self._number}.db"

    def files(self) -> list[Path]:
        """Return the files of all slots, whether a process has them or not."""
        return sorted(self.directory.glob("slot-*.db"))

    def release(self) -> None:
        """Let another process have the slot. A child must, and before it counts: it has inherited the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._number = self._descriptor = None

    def _take(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.directory / "directory.lock"):
            if not any(_is_held(path) for path in self.directory.glob("slot-*.lock")):
                for path in self.directory.glob("*.db"):
                    path.unlink()
            for number in range(MOST):
                descriptor = lock(self.directory / f"slot-{number}.lock")
                if descriptor is not None:
                    self._number, self._descriptor = number, descriptor
                    return
        raise OSError(f"all {MOST} slots of {self.directory} are taken")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock for the length of the block; waits for it."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock until it is closed; None: another has it."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except BlockingIOError:
        os.close(descriptor)
        return None


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_held(path: Path) -> bool:
    descriptor = lock(path)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None
