"""``manage.py cleanup``: delete what is older than it has to be, or say how much that is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import retention
from config.progress import progress_bar, silent
from config.retention import Outcome, Rule

Show = Callable[[int], None]  # how many more are deleted


class Command(BaseCommand):
    help = (
        "Delete what is older than it has to be, table by table, in small steps: it can be interrupted, and run on "
        "several hosts at once. The worker does the same every hour. Exit code 1 when a table could not be cleaned up."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--only", action="append", metavar="NAME", help="this one; may be given several times")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *args: Any, dry_run: bool, only: list[str] | None, as_json: bool, **options: Any) -> None:
        rules = _chosen(only)
        if dry_run:
            self._print([Outcome(rule, rule.overdue()) for rule in rules], as_json, dry_run=True)
            return
        outcomes, interrupted = self._clean_up(rules)
        self._print(outcomes, as_json, interrupted=interrupted)
        if interrupted:
            raise SystemExit(130)
        if any(outcome.error for outcome in outcomes):
            raise SystemExit(1)

    @staticmethod
    def _clean_up(rules: list[Rule]) -> tuple[list[Outcome], bool]:
        """Return what was done, also when Ctrl-C ended it."""
        deleted = {rule.name: 0 for rule in rules}
        try:
            with _shown(rules) as show:

                def tell(rule: Rule, batch: int) -> None:
                    deleted[rule.name] += batch
                    show(batch)

                return retention.clean_up(rules, tell=tell), False
        except KeyboardInterrupt:
            return [Outcome(rule, deleted[rule.name]) for rule in rules], True

    def _print(
        self, outcomes: list[Outcome], as_json: bool, *, dry_run: bool = False, interrupted: bool = False
    ) -> None:
        counted = "overdue" if dry_run else "deleted"
        if as_json:
            facts = {
                "dry_run": dry_run,
                "interrupted": interrupted,
                "rules": [_facts(outcome, counted) for outcome in outcomes],
            }
            self.stdout.write(json.dumps(facts, indent=2, default=str))
            return
        self.stdout.writelines(_table(outcomes, counted))
        if interrupted:
            self.stderr.write("Interrupted. What is counted above is deleted, the rest waits for the next time.")


def _chosen(only: list[str] | None) -> list[Rule]:
    rules = retention.rules()
    if only is None:
        return list(rules.values())
    unknown = [name for name in only if name not in rules]
    if unknown:
        raise CommandError(f"There is no rule {unknown[0]!r}. There are: {', '.join(rules)}.")
    return [rules[name] for name in dict.fromkeys(only)]


def _facts(outcome: Outcome, counted: str) -> dict[str, Any]:
    facts = {"name": outcome.rule.name, "before": outcome.rule.before(), counted: outcome.deleted}
    return facts | ({"error": outcome.error} if outcome.error else {})


def _table(outcomes: list[Outcome], counted: str) -> Iterator[str]:
    width = max([len("TOGETHER"), *(len(outcome.rule.name) for outcome in outcomes)])
    yield f"{'NAME':<{width}}  {counted.upper():>12}\n"
    for outcome in outcomes:
        remark = f"  {outcome.rule.label}" if not outcome.error else f"  failed: {outcome.error}, see the log"
        yield f"{outcome.rule.name:<{width}}  {outcome.deleted:>12,}{remark}\n"
    yield f"{'TOGETHER':<{width}}  {sum(outcome.deleted for outcome in outcomes):>12,}\n"


@contextmanager
def _shown(rules: list[Rule]) -> Iterator[Show]:
    """On a terminal a bar, over all that is overdue."""
    with progress_bar() as tell:
        if tell is silent:
            yield lambda more: None
            return
        total, done = sum(rule.overdue() for rule in rules), 0

        def show(more: int) -> None:
            nonlocal done
            done += more
            tell("deleting", done, total)

        show(0)
        yield show
