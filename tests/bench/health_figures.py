"""What the figures of health cost: the catalogue's, the counting of each statement and record, and the scrape."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from django.contrib.auth.models import Group
from django.db import connection

from auditlog.delivering import deliver
from auditlog.models import Record
from auditlog.signals import batch_recorded
from config import figures as of_site
from healthcheck import statistics
from healthcheck.metrics import figures, prometheus, statements
from healthcheck.metrics.tallies import tallies
from healthcheck.ping import Ping
from tests.bench.figures import Figure
from tests.live import Database, processor_time

TABLES = 50
ROWS = 2_000_000
MOST_OF_STATISTICS = 10.0  # milliseconds
MOST_OF_COUNTING = 1.1  # of a SELECT 1
TURNS = 31
PATIENCE = 5.0  # seconds
STATEMENTS = 500
RECORDS = 500
_FILL = f"""
DO $$ BEGIN
    FOR number IN 1..{TABLES} LOOP
        EXECUTE format('CREATE TABLE bench_%s (id int PRIMARY KEY, name text, at timestamptz)', number);
        EXECUTE format('INSERT INTO bench_%s SELECT n, md5(n::text), now() FROM generate_series(1, {ROWS // TABLES}) n',
            number);
        EXECUTE format('CREATE INDEX ON bench_%s (name)', number);
    END LOOP;
END $$
"""  # noqa: S608 - numbers of our own


def measure(database: Database) -> list[Figure]:
    return [*_statistics(database), *_counting(), *_records(), *_scrape()]


def _statistics(database: Database) -> list[Figure]:
    database.rows(_FILL)
    database.rows("VACUUM ANALYZE")
    found = statistics.take(PATIENCE)
    assert len(found.tables) >= TABLES and sum(table.rows for table in found.tables) >= ROWS
    ping = Ping()
    ((backend,),) = ping.ask("SELECT pg_backend_pid()", PATIENCE)
    ping.ask(statistics.question(), PATIENCE)  # the catalogue is in the session's cache from now on
    worked = _processor_seconds(lambda: [ping.ask(statistics.question(), PATIENCE) for _turn in range(TURNS)], backend)
    ping.close()
    name = f"statistics of {len(found.tables)} tables, {ROWS:,} rows"
    return [
        Figure(f"{name}, processor time", 1000 * worked / TURNS, "ms", 1, at_most=MOST_OF_STATISTICS),
        Figure(f"{name}, with a new session, by the clock", _milliseconds(lambda: statistics.take(PATIENCE)), "ms", 1),
    ]


def _counting() -> list[Figure]:
    connection.ensure_connection()
    with TemporaryDirectory() as directory:
        tallies.share(Path(directory))  # as web processes do
        measured = _counted()
        tallies.keep_to_oneself()
    return measured


def _counted() -> list[Figure]:
    took: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * TURNS):
        counted = turn % 2 == 0
        connection.execute_wrappers[:] = [statements.measured] if counted else []
        took[counted].append(_processor_seconds(_ask_often))
    connection.execute_wrappers[:] = [statements.measured]
    with_it, without = median(took[True]), median(took[False])
    return [
        Figure("counted: SELECT 1 by the ORM, processor time", with_it / without, at_most=MOST_OF_COUNTING),
        Figure("counting a statement", (with_it - without) / STATEMENTS * 1e6, "µs", 1),
    ]


def _ask_often() -> None:
    for _time in range(STATEMENTS):
        Group.objects.exists()  # SELECT 1


def _records() -> list[Figure]:
    deliver()
    took: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(10):
        counted = turn % 2 == 0
        listen = batch_recorded.connect if counted else batch_recorded.disconnect
        listen(of_site._recorded, sender=Record, dispatch_uid="config.figures")
        Group.objects.bulk_create(Group(name=f"{turn} {number}") for number in range(RECORDS))
        took[counted].append(_processor_seconds(deliver, connection.connection.info.backend_pid))
    with_it, without = median(took[True]), median(took[False])
    return [Figure("counted: delivering a record, processor time", with_it / without)]


def _scrape() -> list[Figure]:
    of_site.beat()
    prometheus.exposition()

    def asked() -> None:
        prometheus._asked.forget()
        prometheus.exposition()

    return [
        Figure("scrape", _milliseconds(asked), "ms", 1),
        Figure("scrape, figures of the site shared", _milliseconds(prometheus.exposition), "ms", 1),
        Figure(
            f"figures of the site, {len(figures.families())} families", len(prometheus.exposition()) / 1000, "kB", 0
        ),
    ]


def _milliseconds(work: Callable[[], object]) -> float:
    return 1000 * median(_seconds(work) for _turn in range(TURNS))


def _processor_seconds(work: Callable[[], object], *others: int) -> float:
    """Processor time of this process, and of `others` in steps of their clock's ticks."""
    begun = time.process_time() + sum(map(processor_time, others))
    work()
    return time.process_time() + sum(map(processor_time, others)) - begun


def _seconds(work: Callable[[], object]) -> float:
    gc.disable()
    try:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun
    finally:
        gc.enable()
