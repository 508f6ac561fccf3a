"""What stands in the files that tell how Gatehouse is deployed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.live import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    return found


def procfile() -> dict[str, list[str]]:
    """Each command by its name, less the ``python`` before it."""
    lines = [line for line in (EXAMPLES / "Procfile").read_text().splitlines() if not line.startswith("#")]
    commands = {name: command.split() for name, _, command in (line.partition(": ") for line in lines)}
    assert all(command[0] == "python" for command in commands.values())
    return {name: command[1:] for name, command in commands.items()}


def containerfile() -> list[tuple[str, str]]:
    """Its steps: the instruction, and the rest of the line."""
    lines = (EXAMPLES / "Containerfile").read_text().splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name and name != "#"]


def of_containerfile(instruction: str) -> list[str]:
    return [rest for name, rest in containerfile() if name == instruction]


def in_exec_form(text: str) -> list[str]:
    """The command in a CMD or HEALTHCHECK."""
    found: list[str] = json.loads(text[text.index("[") :])
    return found


def images() -> Iterator[str]:
    """Every image that is fetched from elsewhere."""
    yield from (re.sub(r" AS \w+$", "", image) for image in of_containerfile("FROM"))
    for service in compose()["services"].values():
        build = service.get("build", {})
        if not build:
            yield service["image"]
        yield from re.findall(r"^FROM (\S+)", build.get("dockerfile_inline", ""), re.MULTILINE)
