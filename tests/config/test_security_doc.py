"""docs/security.md: each requirement of OWASP ASVS 5.0.0, levels 1 and 2, once, and nothing it names is missing."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TEXT = (DOCS / "security.md").read_text()
LINES = TEXT.splitlines()
ISSUES = range(4, 9)  # those that are planned

# Section -> level of each of its requirements, in order. Source: OWASP_Application_Security_Verification_Standard_
# 5.0.0_en.csv of github.com/OWASP/ASVS.
# fmt: off
LEVELS = {
    "1.1": "22", "1.2": "1111122223", "1.3": "112222222223", "1.4": "222", "1.5": "123",
    "2.1": "122", "2.2": "112", "2.3": "12223", "2.4": "23",
    "3.1": "3", "3.2": "113", "3.3": "12223", "3.4": "11222233", "3.5": "11122333", "3.6": "3", "3.7": "22333",
    "4.1": "12233", "4.2": "23333", "4.3": "22", "4.4": "1222",
    "5.1": "2", "5.2": "112333", "5.3": "113", "5.4": "222",
    "6.1": "122", "6.2": "111111112222", "6.3": "11223333", "6.4": "112233", "6.5": "22222333", "6.6": "2223",
    "6.7": "33", "6.8": "2222",
    "7.1": "222", "7.2": "1111", "7.3": "22", "7.4": "11222", "7.5": "223", "7.6": "22",
    "8.1": "1233", "8.2": "1123", "8.3": "133", "8.4": "23",
    "9.1": "111", "9.2": "1222",
    "10.1": "22", "10.2": "223", "10.3": "22223", "10.4": "1111122222233333", "10.5": "22222", "10.6": "22",
    "10.7": "222",
    "11.1": "2233", "11.2": "22233", "11.3": "11233", "11.4": "1222", "11.5": "23", "11.6": "23", "11.7": "33",
    "12.1": "12233", "12.2": "11", "12.3": "22223",
    "13.1": "2333", "13.2": "222223", "13.3": "2233", "13.4": "1222233",
    "14.1": "22", "14.2": "12223333", "14.3": "122",
    "15.1": "12233", "15.2": "12233", "15.3": "1222222", "15.4": "3333",
    "16.1": "2", "16.2": "22222", "16.3": "2222", "16.4": "222", "16.5": "2223",
    "17.1": "23", "17.2": "22223333", "17.3": "22",
}
# fmt: on
STANDARD = {
    f"{section}.{place}": level for section, levels in LEVELS.items() for place, level in enumerate(levels, start=1)
}
WANTED = {number: level for number, level in STANDARD.items() if level in "12"}


class Row(NamedTuple):
    chapter: str
    number: str
    level: str
    shown_by: list[str]


def chapter_of(number: str) -> str:
    return number.split(".")[0]


def expanded(numbers: str) -> list[str]:
    """Return each number of a list like ``1.2.6, 4.4.1–4``."""
    found = []
    for item in numbers.split(", "):
        first, _, last = item.partition("–")
        section, place = first.rsplit(".", 1)
        found += [f"{section}.{each}" for each in range(int(place), int(last or place) + 1)]
    return found


def parsed() -> tuple[list[Row], list[tuple[str, str]]]:
    """Return the rows, and (chapter, number) of each requirement that does not apply."""
    rows, not_applicable, chapter = [], [], ""
    for line in LINES:
        if heading := re.match(r"### V(\d+) ", line):
            chapter = heading[1]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not re.match(r"\| \d+\.", line):
            continue
        if len(cells) == 2:
            not_applicable += [(chapter, number) for number in expanded(cells[0])]
        else:
            number, level, _asked, _here, shown_by = cells
            rows.append(Row(chapter, number, level, shown_by.split("<br>")))
    return rows, not_applicable


ROWS, NOT_APPLICABLE = parsed()
EVIDENCE = [(row.number, piece) for row in ROWS for piece in row.shown_by]
KINDS = {
    "test": re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)(?:\[.+\])?`"),
    "section": re.compile(r"\[[^]]+\]\(([\w.]*)#([\w-]+)\)"),
    "issue": re.compile(r"not yet built \(issue (\d+)\)"),
    "lint": re.compile(r"lint: ([A-Z]+)(\d+)"),
    "words": re.compile(r"(?:deployment|not met|no test): \S.+"),
}


def named(kind: str) -> list[tuple[str, ...]]:
    """Return what the evidence of this kind names, without repetition."""
    matches = (KINDS[kind].fullmatch(piece) for _number, piece in EVIDENCE)
    return sorted({match.groups() for match in matches if match})


@cache
def named_in(path: str) -> set[str]:
    """Return the names of the tests in a file, those in classes as ``Class::test``, without importing it."""
    names = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {
            prefix + member.name for member in members if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    return {name for name in names if name.split("::")[-1].startswith("test_")}


@cache
def sections_of(document: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", (DOCS / document).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_levels_is_as_long_as_the_standard() -> None:
    assert Counter(STANDARD.values()) == {"1": 70, "2": 183, "3": 92}


def test_each_requirement_of_levels_1_and_2_is_there_once() -> None:
    found = Counter([row.number for row in ROWS] + [number for _chapter, number in NOT_APPLICABLE])
    assert found == Counter(WANTED.keys())


def test_each_stands_in_its_chapter() -> None:
    placed = [(row.chapter, row.number) for row in ROWS] + NOT_APPLICABLE
    assert [number for chapter, number in placed if chapter != chapter_of(number)] == []


def test_each_row_has_the_level_of_the_standard() -> None:
    assert {row.number: row.level for row in ROWS if row.level != WANTED.get(row.number)} == {}


def test_the_numbers_of_each_chapter_add_up() -> None:
    said = {}
    for line in LINES:
        if match := re.fullmatch(r"\| V(\d+) [^|]+ \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", line):
            said[match[1]] = tuple(int(figure) for figure in match.groups()[1:])
    levels = Counter((chapter_of(number), level) for number, level in WANTED.items())
    rows = Counter(row.chapter for row in ROWS)
    without = Counter(chapter for chapter, _number in NOT_APPLICABLE)
    chapters = [str(chapter) for chapter in range(1, 18)]
    assert said == {each: (levels[each, "1"], levels[each, "2"], rows[each], without[each]) for each in chapters}


def test_each_row_says_what_shows_it_in_a_way_that_is_known() -> None:
    unknown = [
        (number, piece) for number, piece in EVIDENCE if not any(kind.fullmatch(piece) for kind in KINDS.values())
    ]
    assert unknown == []


def test_each_test_that_is_named_exists() -> None:
    missing = [
        f"{path}::{name}" for path, name in named("test") if not (ROOT / path).is_file() or name not in named_in(path)
    ]
    assert missing == []


def test_each_section_that_is_linked_exists() -> None:
    missing = [
        f"{document}#{anchor}"
        for document, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", TEXT)
        if anchor not in sections_of(document or "security.md")
    ]
    assert missing == []


def test_each_issue_that_is_named_is_planned() -> None:
    assert [issue for (issue,) in named("issue") if int(issue) not in ISSUES] == []


def test_each_rule_that_is_named_is_switched_on() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    off = [
        letters + digits
        for letters, digits in named("lint")
        if letters not in lint["select"] or letters + digits in lint["ignore"]
    ]
    assert off == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "issue"])  # of which there may be none
def test_no_kind_of_evidence_is_overlooked(kind: str) -> None:
    assert named(kind)
