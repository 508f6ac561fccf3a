"""The alerts and the scrape configuration that the documentation hands out: promtool reads them, and they can fire."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from config import figures as of_site
from healthcheck.metrics import prometheus
from tests.live import ROOT

EXAMPLES = ROOT / "docs" / "examples" / "prometheus"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
# Their series come with the first reading, error or request of that kind.
SELDOM = {("check", "disk"), ("status", "5xx")}


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in read("alerts.yml")["groups"] for rule in group["rules"]}


@promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ],
    ids=["rules", "tests", "configuration"],
)
def test_promtool_accepts_them(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_says_what_to_do_and_is_shown_to_fire_and_to_keep_quiet() -> None:
    shown: dict[str, list[bool]] = {}
    for test in read("alerts.test.yml")["tests"]:
        for expected in test["alert_rule_test"]:
            shown.setdefault(expected["alertname"], []).append(bool(expected["exp_alerts"]))
    assert shown == {name: [True, False] for name in alerts()}
    for rule in alerts().values():
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.django_db(transaction=True)
def test_what_the_alerts_look_at_is_what_gatehouse_tells(client: Client, counted: object) -> None:
    client.get("/accounts/login/")
    of_site.beat()
    of_site.measure_trail()
    prometheus._asked.forget()
    told: dict[str, list[dict[str, str]]] = {"up": [{"job": "gatehouse"}]}
    for family in text_string_to_metric_families(prometheus.exposition().decode()):
        for sample in family.samples:
            told.setdefault(sample.name, []).append(sample.labels)
    for name, matchers in selectors():
        assert name in told
        for label, operator, value in matchers:
            assert any(label in labels for labels in told[name]), (name, label)
            if operator == "=" and (label, value) not in SELDOM:
                assert any(labels[label] == value for labels in told[name]), (name, label, value)


def selectors() -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Every metric that an alert names, with its conditions on labels."""
    found = []
    for rule in alerts().values():
        for name, conditions in re.findall(r"\b(gatehouse_\w+|up)\b(?:\{([^}]*)\})?", rule["expr"]):
            found.append((name, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', conditions)))
    return found
