"""``make bench``: measure what the project promises, as ratios within one run, and compare with the goals.

Runs on a throw-away PostgreSQL of its own with the durability of the persistent one; it ends with the run.
Exit code 0 when every goal is met, else 1. ``--json`` is for programs.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from multiprocessing import get_context

from tests.bench.figures import as_facts, as_table
from tests.bench.parts import PARTS, measure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds of hashes and signups (7)")
    parser.add_argument(
        "--pairs",
        type=int,
        default=15,
        help="signups and logins, each with a known and with an unknown account (15)",
    )
    parser.add_argument("--turns", type=int, default=400, help="of each write, audited and not (400)")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)
    # Each part has a database, and Django's settings know one: so each has a process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        figures = list(chain.from_iterable(processes.map(measure, parts, repeat(options))))
    sys.stdout.write(json.dumps(as_facts(figures), indent=2) + "\n" if options.json else as_table(figures))
    return 1 if any(figure.missed for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
