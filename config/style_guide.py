"""In development, a page of all that pages are made of: it shows at a glance what a change of a style sheet does."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from healthcheck.history import Point

_TOKENS = Path(settings.BASE_DIR, "config/static/site/tokens.css")
_COLOUR = re.compile(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
TEXT, EDGE = 4.5, 3.0  # WCAG 2.2, success criteria 1.4.3 and 1.4.11
# What stands on what, and the contrast that it needs.
PAIRS = [
    *((name, "paper", TEXT) for name in ("ink", "muted", "accent", "danger", "warning")),
    *((name, "surface", TEXT) for name in ("ink", "muted", "accent", "danger", "warning")),
    *((name, f"{name}-soft", TEXT) for name in ("accent", "danger", "warning")),
    *(("ink", f"{name}-soft", TEXT) for name in ("accent", "danger", "warning")),
    ("accent-strong", "paper", TEXT),
    ("on-accent", "accent", TEXT),
    ("on-accent", "accent-strong", TEXT),
    ("edge", "paper", EDGE),
    ("edge", "surface", EDGE),
]
_CHOICES = [("a", _("One")), ("b", _("Two"))]


@dataclass(frozen=True)
class Contrast:
    text: str
    ground: str
    needed: float
    light: float
    dark: float

    @property
    def is_enough(self) -> bool:
        return min(self.light, self.dark) >= self.needed


def colours() -> dict[str, tuple[str, str]]:
    """Return each colour of the style sheet by its name: for light and for dark."""
    return {name: (light, dark) for name, light, dark in _COLOUR.findall(_TOKENS.read_text())}


def contrasts() -> list[Contrast]:
    """Return the contrast of every pair that pages use."""
    known = colours()
    return [
        Contrast(text, ground, needed, *map(contrast, known[text], known[ground])) for text, ground, needed in PAIRS
    ]


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (``#rrggbb``), from 1 to 21, as WCAG 2.2 defines it, rounded down."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return math.floor((lighter + 0.05) / (darker + 0.05) * 100) / 100


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class SampleForm(forms.Form):
    """One field of each kind; whatever is sent, one of them is wrong."""

    name = forms.CharField(
        label=_("Name"), help_text=_("A word of help."), widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    wrong = forms.EmailField(label=_("E-mail address"), widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    password = forms.CharField(
        label=_("Password"), widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}), required=False
    )
    number = forms.IntegerField(label=_("Number"), required=False)
    text = forms.CharField(label=_("Text"), required=False, widget=forms.Textarea(attrs={"rows": 3}))
    choice = forms.ChoiceField(label=_("Choice"), choices=_CHOICES)
    one = forms.ChoiceField(label=_("One of them"), choices=_CHOICES, widget=forms.RadioSelect)
    many = forms.MultipleChoiceField(
        label=_("Some of them"),
        choices=_CHOICES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    fixed = forms.CharField(label=_("Not to be changed"), disabled=True, required=False, initial=_("As it is"))

    def clean_wrong(self) -> str:
        raise ValidationError(_("Enter an address like ada@example.com."))


def _points() -> list[Point]:
    """A day's measurements with a gap."""
    begin = timezone.now() - timedelta(days=1)
    values: list[dict[str, Any]] = [
        {"p50": 2 + math.sin(place / 9), "p95": 4 + 2 * math.sin(place / 7)} for place in range(144)
    ]
    values[60:75] = [{"p50": None, "p95": None}] * 15
    return [Point(begin + timedelta(minutes=10 * place), each) for place, each in enumerate(values)]


@require_GET
def style_guide(request: HttpRequest) -> HttpResponse:
    levels = {
        messages.SUCCESS: _("It is saved."),
        messages.INFO: _("For your information."),
        messages.WARNING: _("Look at this before you go on."),
        messages.ERROR: _("That did not work."),
    }
    sent = {"name": "Ada", "wrong": "ada", "choice": "a", "one": "a"}
    context = {
        "colours": [(name, *both) for name, both in colours().items()],
        "contrasts": contrasts(),
        "form": SampleForm(sent),
        "samples": [(messages.DEFAULT_TAGS[level], text) for level, text in levels.items()],
        "states": [("open", _("open")), ("expired", _("expired")), ("failed", _("failed")), ("used", _("used"))],
        "points": _points(),
        "now": timezone.now(),
    }
    return render(request, "config/style_guide.html", context)
