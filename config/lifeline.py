"""Ends this process when its parent is gone, also after a ``kill -9`` of the parent.

The parent holds the writing end of a pipe and never writes. When it dies, however it dies, the kernel
closes that end and the child's read returns.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading

_VARIABLE = "GATEHOUSE_LIFELINE"


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own (a terminal's Ctrl-C reaches only us) on a lifeline to us."""
    reading, writing = os.pipe()
    child = subprocess.Popen(
        command, pass_fds=[reading], env={**os.environ, _VARIABLE: str(reading)}, start_new_session=True
    )
    os.close(reading)
    # Kept open, and out of other children (it is not inheritable), for as long as this process lives.
    _kept_open.append(writing)
    return child


_kept_open: list[int] = []


def hold() -> None:
    """In a child that `start` started: send ourselves SIGTERM when the parent is gone. Else do nothing."""
    descriptor = os.environ.pop(_VARIABLE, "")
    if descriptor.isdecimal():
        threading.Thread(target=_wait_for_the_end, args=[int(descriptor)], daemon=True).start()


def _wait_for_the_end(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
