"""The page of all that pages are made of, and the contrasts that it shows."""

from __future__ import annotations

import pytest
from django.test import Client

from config import style_guide


def test_every_pair_of_colours_has_the_contrast_it_needs() -> None:
    assert [pair for pair in style_guide.contrasts() if not pair.is_enough] == []
    assert {name for pair in style_guide.PAIRS for name in pair[:2]} == set(style_guide.colours()) - {"line"}


def test_contrasts_are_those_of_the_standard() -> None:
    assert style_guide.contrast("#000000", "#ffffff") == style_guide.contrast("#ffffff", "#000000") == 21
    assert style_guide.contrast("#777777", "#ffffff") == 4.47  # the grey that is just too light
    assert style_guide.contrast("#767676", "#ffffff") == 4.54
    assert style_guide.contrast("#123456", "#123456") == 1


@pytest.mark.django_db
def test_the_page_shows_a_refused_form_and_every_colour() -> None:
    page = Client().get("/dev/style/").content.decode()
    assert all(f"--{name}<" in page for name in style_guide.colours())
    assert 'aria-invalid="true"' in page
    assert '<svg class="plot plot-lines"' in page
