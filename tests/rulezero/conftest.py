from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction
from django.template.base import Template
from django.template.context import Context
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from accounts import session_engine
from tests.rulezero.forms import Form, find_forms
from tests.rulezero.house import House, furnish


@pytest.fixture(scope="module")
def furnished(
    quiet: None, django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """The house that the tests of a module share: to furnish it and to find its doors takes seconds."""
    mails = tmp_path_factory.mktemp("mails")
    atomic = transaction.atomic()
    atomic._from_testcase = True  # type: ignore[attr-defined]  # for Django's check that a durable block is outermost
    with (
        django_db_blocker.unblock(),
        override_settings(MAIL_DIRECTORY=mails),
        pytest.MonkeyPatch.context() as patches,
        atomic,
    ):
        # A session is noted as seen after the answer: where the view's statement failed, not in this transaction.
        patches.setattr(session_engine, "SEEN_EVERY", timedelta(days=1))
        yield furnish(mails)
        transaction.set_rollback(True)


@pytest.fixture
def house(furnished: House) -> Iterator[House]:
    """The house as it was furnished, whatever a test before did in it."""
    before = transaction.savepoint()
    yield replace(furnished, _sessions={**furnished._sessions})
    transaction.savepoint_rollback(before)


@pytest.fixture(scope="module")
def forms(furnished: House) -> list[Form]:
    return find_forms(furnished)


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Write no log lines and note no template: with tens of thousands of requests, each takes half of the time."""

    def render(template: Template, context: Context) -> str:
        return template.nodelist.render(context)

    logging.disable(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(Template, "_render", render)
        yield
    logging.disable(logging.NOTSET)
