"""The catalogues are whole, nothing visible is outside of them, and pages speak as the browser asks."""

from __future__ import annotations

import ast
import gettext
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.template.base import Lexer, TokenType
from django.test import Client
from django.utils import formats, translation

from accounts.models import User
from tests.accounts.conftest import run_jobs, text_of
from tests.factories import PASSWORD, InvitationFactory

ROOT = settings.BASE_DIR
APPS = ("accounts", "auditlog", "config", "healthcheck")
GERMAN_CATALOGUE = ROOT / "locale" / "de" / "LC_MESSAGES" / "django.po"
# The small ones beside it hold what Django's own catalogues lack.
CATALOGUES = sorted((ROOT / "locale").rglob("*.po"))
GERMAN = {"Accept-Language": "de-AT,de;q=0.8,en;q=0.5"}

# --- The catalogue ----------------------------------------------------------------------------------


@dataclass
class Message:
    """One of a catalogue: `texts` are the message and its plural, `translations` what stands for each."""

    texts: list[str] = field(default_factory=list)
    translations: list[str] = field(default_factory=list)
    comments: str = ""


def messages_in(catalogue: Path) -> list[Message]:
    """Read a catalogue without contexts, in which blank lines part the messages, as makemessages writes it."""
    messages = []
    for block in catalogue.read_text(encoding="utf-8").strip().split("\n\n"):
        message, several = Message(), []
        for line in block.splitlines():
            if line.startswith("#"):
                message.comments += line
                continue
            keyword, quote, text = line.partition('"')
            if keyword:
                several = message.texts if keyword.startswith("msgid") else message.translations
                several.append("")
            several[-1] += ast.literal_eval(quote + text)
        messages.append(message)
    return messages[1:]  # the first is about the catalogue


@pytest.mark.skipif(shutil.which("xgettext") is None, reason="no gettext on this machine")
def test_the_catalogue_holds_what_is_to_be_translated_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    for part in (*APPS, "templates"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("static", "__pycache__"))
    settings.LOCALE_PATHS = [tmp_path / "locale"]
    settings.LOCALE_PATHS[0].mkdir()
    monkeypatch.chdir(tmp_path)
    call_command("makemessages", locale=["de"], no_wrap=True, no_location=True, verbosity=0)
    wanted = messages_in(tmp_path / "locale" / "de" / "LC_MESSAGES" / "django.po")
    held = messages_in(GERMAN_CATALOGUE)
    assert {tuple(m.texts) for m in held} == {tuple(m.texts) for m in wanted}, "please run: make messages"


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.stem)
def test_every_message_is_translated(catalogue: Path) -> None:
    assert [m.texts for m in messages_in(catalogue) if "fuzzy" in m.comments or not all(m.translations)] == []


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.stem)
def test_what_is_compiled_is_what_the_catalogue_says(catalogue: Path) -> None:
    with catalogue.with_suffix(".mo").open("rb") as file:
        compiled = vars(gettext.GNUTranslations(file))["_catalog"]
    said: dict[str | tuple[str, int], str] = {}
    for message in messages_in(catalogue):
        plurals = enumerate(message.translations)
        key = message.texts[0]
        said.update({(key, n): t for n, t in plurals} if message.texts[1:] else {key: message.translations[0]})
    assert {key: text for key, text in compiled.items() if key} == said, "please run: make messages"


PLACE = re.compile(r"%(?:\(\w+\))?[sd]|\{\w*\}|</?\w+[^>]*>|&\w+;|`\w+`")


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.stem)
def test_translations_keep_places_and_tags(catalogue: Path) -> None:
    for message in messages_in(catalogue):
        for text, translated in zip(message.texts, message.translations, strict=True):
            assert sorted(PLACE.findall(translated)) == sorted(PLACE.findall(text)), text
            assert (translated.strip() == translated) == (text.strip() == text), text


# --- Nothing visible outside of it ------------------------------------------------------------------

# Names and units, the same in every language; addresses and commands stand in <code>.
NAMES = {"Gatehouse", "UTC", "CSV", "JSON", "SHA-256", "KiB", "MiB", "ms", "p50", "p95"}
SHOWN = {"alt", "aria-label", "aria-description", "content", "data-label", "placeholder", "title"}


class Shown(HTMLParser):
    """Collects what a template shows apart from what it computes or translates."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("code", "script", "style"):
            self.inside.append(tag)
        if tag != "meta":
            self.words += [value for name, value in attrs if name in SHOWN and value]

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.words.append(data)


def untranslated_in(template: str) -> list[str]:
    """Return the texts of a template that no tag translates and that hold a word."""
    ended_by, source = "", ""
    for token in Lexer(template).tokenize():
        name, *about = token.contents.split() if token.token_type == TokenType.BLOCK else [""]
        if ended_by:
            ended_by = "" if name == ended_by else ended_by
        elif name in ("blocktranslate", "blocktrans", "comment"):
            ended_by = f"end{name}"
        elif name == "block" and about[0].endswith("_class"):
            ended_by = "endblock"
        elif token.token_type == TokenType.TEXT:
            source += token.contents
        elif token.token_type == TokenType.VAR:
            source += "0"  # not to part the words of a class or an address
    shown = Shown()
    shown.feed(source)
    shown.close()
    return [text.strip() for text in shown.words if set(re.findall(r"[^\W\d_][\w-]+", text)) - NAMES]


def test_every_text_of_a_template_can_be_translated() -> None:
    assert untranslated_in('{% translate "a" %}<p title="Now">{{ b }} Then</p>') == ["Now", "0 Then"]
    found = {
        str(path.relative_to(ROOT)): untranslated_in(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "templates").rglob("*.*"))
    }
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_every_label_and_message_of_the_code_can_be_translated() -> None:
    labels = {"help_text", "label", "verbose_name", "verbose_name_plural", "description", "empty_label"}
    speakers = {"ValidationError", "success", "info", "warning", "error"}
    found = []
    for path in (path for app in APPS for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            said: list[ast.expr] = []
            name = node.arg if isinstance(node, ast.keyword) else getattr(getattr(node, "targets", [None])[0], "id", "")
            if name in labels and isinstance(node, ast.keyword | ast.Assign):
                said = [node.value]
            elif isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in speakers and getattr(getattr(node.func, "value", None), "id", "messages") == "messages":
                    said = node.args
            found += [
                f"{path.relative_to(ROOT)}:{text.lineno} {text.value}"
                for text in said
                if isinstance(text, ast.Constant) and isinstance(text.value, str)
                if re.search("[A-Z ]", text.value) and text.value not in NAMES
            ]
    assert found == []


def test_german_has_its_own_way_for_each_date_that_is_spelt_out() -> None:
    sources = [
        p for part in (*APPS, "templates") for p in (ROOT / part).rglob("*.*") if p.suffix in (".py", ".html", ".txt")
    ]
    written = {
        quoted
        for path in sources
        for quoted in re.findall(r"""date(?:_format\(\w+, |:)["']([^"']*[FM][^"']*)["']""", path.read_text("utf-8"))
    }
    assert len(written) > 3
    assert [text for text in written if formats.get_format(text, lang="de") == text] == []


def test_style_sheets_know_a_start_and_an_end_and_no_left_or_right() -> None:
    sides = re.compile(r"[;{]\s*((?:[a-z-]+-)?(?:left|right)(?:-[a-z]+)?:|(?:text-align|float): (?:left|right))")
    four = re.compile(r"((?:margin|padding|inset): \S+ (\S+) \S+ (?!\2;)\S+;)")
    found = [
        f"{path.name}: {match[1]}"
        for path in (ROOT / "config" / "static").rglob("*.css")
        for pattern in (sides, four)
        for match in pattern.finditer(re.sub(r"\([^()]*\)", "", path.read_text(encoding="utf-8")))
    ]
    assert found == []


# --- Who is spoken to how ---------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Client:
    return Client()


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No request leaves its language to the next one of its thread."""
    yield
    assert translation.get_language() == "en"


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-CH, en;q=0.1", "de"),
        ("en-US,de;q=0.9", "en"),
        ("fr,de;q=0.2", "de"),
        ("fr", "en"),
    ],
)
def test_strangers_are_spoken_to_as_their_browser_asks(stranger: Client, db: None, asked: str, spoken: str) -> None:
    response = stranger.get("/accounts/login/", headers={"Accept-Language": asked})
    assert f'<html lang="{spoken}" dir="ltr">' in text_of(response)
    assert "Accept-Language" in response["Vary"].split(", ")


def test_errors_speak_as_well(stranger: Client, db: None) -> None:
    missing = stranger.get("/nowhere/", headers=GERMAN)
    assert (missing.status_code, "Diese Seite konnten wir nicht finden" in text_of(missing)) == (404, True)
    malformed = stranger.get("/accounts/login/?a=%00", headers=GERMAN)
    assert (malformed.status_code, "Diese Anfrage konnten wir nicht lesen" in text_of(malformed)) == (400, True)


def test_probes_are_the_same_for_everybody(stranger: Client, db: None) -> None:
    answers = [stranger.get("/health/ready", headers=headers) for headers in ({}, GERMAN)]
    assert answers[0].headers.get("Vary") == answers[1].headers.get("Vary")
    assert "Accept-Language" not in answers[1].headers.get("Vary", "")


def test_a_health_page_speaks_as_its_reader_has_chosen(stranger: Client, db: None) -> None:
    headers = {"Accept": "text/html"}
    assert "Sie können jede Seite" in text_of(stranger.get("/health/", headers=headers | GERMAN))
    stranger.force_login(User.objects.create_superuser("keeper", "keeper@example.com", PASSWORD, language="de"))
    page = text_of(stranger.get("/health/", headers=headers))
    assert ('<html lang="de"' in page, "Was geprüft wird" in page) == (True, True)


def test_who_signs_up_in_german_gets_german_mails_from_then_on(
    stranger: Client, db: None, django_capture_on_commit_callbacks: Any
) -> None:
    form = {"username": "Neuling", "email": "neuling@example.com", "full_name": "", "password": PASSWORD}
    stranger.get("/accounts/signup/", headers=GERMAN)
    with django_capture_on_commit_callbacks(execute=True):
        assert stranger.post("/accounts/signup/", form, headers=GERMAN).status_code == 303
    assert User.objects.get().language == "de"
    (message,) = run_jobs()
    assert message.subject == "Bestätigen Sie Ihre E-Mail-Adresse"


@pytest.mark.parametrize(("chosen", "spoken"), [("", "de"), ("en", "en")])
def test_an_invitation_is_written_in_the_language_of_who_sends_it(
    stranger: Client, db: None, chosen: str, spoken: str
) -> None:
    inviter = User.objects.create_superuser("keeper", "keeper@example.com", PASSWORD, language=chosen)
    invitation = InvitationFactory.create(email="guest@example.com", invited_by=inviter, sent_at=None)
    stranger.force_login(inviter)
    assert stranger.post(f"/accounts/invitations/{invitation.pk}/resend/", headers=GERMAN).status_code == 303
    (message,) = run_jobs()
    assert f'<html lang="{spoken}" ' in message.alternatives[0][0]
