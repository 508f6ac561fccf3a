"""Counting by the processes of a host: nothing is lost or counted twice, and the files do not grow in number."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthcheck.metrics import tallies as module
from healthcheck.metrics.tallies import MOST_KEYS, Tallies, key_of

# Newer Pythons warn of any fork beside threads; the children here touch nothing that a thread may hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
KEY = key_of("request", "route/", "GET", "2xx")
NAMES = ("request", "route/", "GET", "2xx")
BUCKET = key_of("bucket", "other", "1")


def count(tallies: Tallies, times: int = 1) -> None:
    for _time in range(times):
        tallies.add(KEY, KEY, 1.0, 0.5)


def sums(tallies: Tallies) -> tuple[float, float]:
    pairs = tallies.of_host().get(NAMES, [])
    return sum(first for first, _second in pairs), sum(second for _first, second in pairs)


def in_child(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process, which then ends as if it had been killed; returns its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def shared(directory: Path) -> Tallies:
    made = Tallies()
    made.share(directory)
    return made


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.db"))


def test_what_is_counted_alone_stays_in_memory(tmp_path: Path) -> None:
    alone = Tallies()
    count(alone, 3)
    assert sums(alone) == (3, 1.5)


def test_the_processes_of_a_host_see_the_sum_and_a_killed_one_has_lost_nothing(tmp_path: Path) -> None:
    mine = shared(tmp_path)
    count(mine, 2)
    assert in_child(lambda: count(mine, 5)) == -signal.SIGKILL
    assert sums(mine) == (7, 3.5)


def test_who_comes_next_goes_on_in_the_slot_of_who_has_gone(tmp_path: Path) -> None:
    mine = shared(tmp_path)
    for _generation in range(5):
        in_child(lambda: count(mine, 10))
    assert sums(mine) == (50, 25)
    assert files(tmp_path) == ["slot-0.db", "slot-1.db"]


def test_many_processes_at_once_have_a_slot_each_and_the_sum_is_exact(tmp_path: Path) -> None:
    mine = shared(tmp_path)
    context = get_context("fork")
    processes = [context.Process(target=count, args=(mine, 1000)) for _number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sums(mine) == (6000, 3000)
    assert len(files(tmp_path)) <= 7


def test_when_none_is_left_the_next_begins_from_nothing(tmp_path: Path) -> None:
    def first() -> None:
        count(shared(tmp_path), 9)

    assert in_child(first) == -signal.SIGKILL
    (tmp_path / "written.db").touch()
    again = shared(tmp_path)
    assert sums(again) == (0, 0)
    assert files(tmp_path) == ["slot-0.db"]


def test_a_directory_that_cannot_be_written_costs_the_sharing_not_the_site(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as lines:
        lonely = shared(tmp_path / "file" / "metrics")
        count(lonely, 3)
    assert sums(lonely) == (3, 1.5)
    assert [line["event"] for line in lines] == ["metrics.not_shared"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on files' sizes that raises")
def test_a_disk_without_room_is_noticed_before_anything_is_mapped(tmp_path: Path) -> None:
    def work() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (module.FILE_BYTES // 2, module.FILE_BYTES // 2))
        tallies = shared(tmp_path)
        count(tallies, 3)
        assert sums(tallies) == (3, 1.5)

    assert in_child(work) == -signal.SIGKILL


def test_a_damaged_file_is_begun_anew_and_one_of_another_slot_is_left_out(tmp_path: Path) -> None:
    mine = shared(tmp_path)
    count(mine)
    in_child(lambda: count(mine))
    (tmp_path / "slot-1.db").write_bytes(b"\xff\x00\x00\x00" * 64)
    assert sums(mine) == (1, 0.5)
    in_child(lambda: count(mine))  # alone in memory: its figures are not worth an error
    in_child(lambda: count(mine))
    assert sums(mine) == (2, 1.0)


def test_there_are_only_so_many_keys_of_a_kind_and_the_rest_is_counted_together(tmp_path: Path) -> None:
    mine = shared(tmp_path)
    other = key_of("request", "other", "GET", "2xx")
    for number in range(MOST_KEYS["request"] + 50):
        mine.add(key_of("request", f"route-{number}/", "GET", "2xx"), other)
    mine.add(BUCKET, BUCKET)
    found = mine.of_host()
    assert found["request", "other", "GET", "2xx"] == [(50, 0)]
    assert len(found) == MOST_KEYS["request"] + 2
    assert found["bucket", "other", "1"] == [(1, 0)]


def test_a_file_has_all_its_disk_at_once_and_the_longest_keys_of_all_kinds_fit_into_it(tmp_path: Path) -> None:
    mine = shared(tmp_path)
    made = (tmp_path / "slot-0.db").stat()
    assert made.st_size == module.FILE_BYTES <= made.st_blocks * 512
    for kind, most in MOST_KEYS.items():
        longest = 700 if kind in ("statement", "slowest", "failure") else 120
        for number in range(most):
            mine.add(key_of(kind, f"{number:0{longest}}"), key_of(kind, "other"))
    assert (tmp_path / "slot-0.db").stat().st_size == module.FILE_BYTES


def test_the_slowest_is_of_its_period() -> None:
    alone, times, slowest = Tallies(), key_of("statement", "SELECT"), key_of("slowest", "SELECT")
    for seconds, period in ((3.0, 1.0), (2.0, 1.0), (1.0, 2.0)):
        alone.took((times, times), (slowest, slowest), seconds, period)
    assert alone.of_host() == {("statement", "SELECT"): [(3.0, 6.0)], ("slowest", "SELECT"): [(1.0, 2.0)]}
