"""The cast of these tests, and how they look at jobs, mails and pages."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.db.models import F
from django.test import Client
from django_tasks_db.models import DBTaskResult

from accounts.hashers import BcryptHasher
from accounts.models import LoginAttempt, User
from config.worker import Worker
from tests.accounts.phones import Phone, give_phone
from tests.factories import PASSWORD, UserFactory


@pytest.fixture
def owner(db: None) -> User:
    """Whose account it is about."""
    return UserFactory.create(username="owner", email="owner@example.com", full_name="Olivia Owner")


@pytest.fixture
def colleague(db: None) -> User:
    """Somebody else with an account."""
    return UserFactory.create(username="colleague", email="colleague@example.com")


@pytest.fixture
def administrator(db: None) -> User:
    return UserFactory.create(username="keeper", email="keeper@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def stranger() -> Client:
    """A browser in which nobody is signed in."""
    return Client()


@pytest.fixture
def owners_browser(owner: User) -> Client:
    browser = Client()
    browser.force_login(owner)
    return browser


@pytest.fixture
def admins_browser(administrator: User) -> Client:
    browser = Client()
    browser.force_login(administrator)
    return browser


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were hashed since the test began or cleared it."""
    hashed: list[str] = []
    encode = BcryptHasher.encode

    def counting(self: BcryptHasher, password: str, salt: str | bytes) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(BcryptHasher, "encode", counting)
    return hashed


@pytest.fixture
def inviter(db: None) -> User:
    """A colleague of the Support role."""
    user = UserFactory.create(username="inviter", is_staff=True)
    user.groups.set(Group.objects.filter(name="Support"))
    return user


@pytest.fixture
def inviters_browser(inviter: User) -> Client:
    browser = Client()
    browser.force_login(inviter)
    return browser


def sign_in(browser: Client, name: str, password: str = PASSWORD, **more: Any) -> Any:
    return browser.post("/accounts/login/", {"username": name, "password": password}, **more)


def failures(browser: Client, count: int, name: str = "owner", **more: Any) -> list[int]:
    """Sign in with a wrong password so many times; returns the statuses."""
    return [sign_in(browser, name, "Wrong-Password-1", **more).status_code for _try in range(count)]


def let_pass(**duration: float) -> None:
    """Let the recorded login attempts be older by this much."""
    shift = timedelta(**duration)
    LoginAttempt.objects.update(reserved_at=F("reserved_at") - shift, forgiven_at=F("forgiven_at") - shift)


def jobs() -> list[tuple[str, list[str]]]:
    """What waits for the worker: the function's name and its arguments, oldest first."""
    waiting = DBTaskResult.objects.ready().order_by("enqueued_at")
    return [(job.task_path.rpartition(".")[2], job.args_kwargs["args"]) for job in waiting]


def run_jobs() -> list[Any]:
    """Let the worker do all that waits; returns the mails that it sent."""
    before = len(mail.outbox)
    worker = Worker(once=True)
    while (job := DBTaskResult.objects.ready().first()) is not None:
        job.claim(worker.worker_id)
        worker.run_task(job)
        assert job.status == "SUCCESSFUL", job.traceback
    return mail.outbox[before:]


def but_new_devices(messages: list[Any]) -> list[Any]:
    """Leave the mails out that tell of a sign-in with a new browser, as each of a test is."""
    return [message for message in messages if "new device" not in message.subject]


def link_in(message: Any) -> str:
    """The path of the only link with a token in a mail's text."""
    (path,) = re.findall(
        r"http://localhost:8000"
        r"(/accounts/(?:verify|password/reset|email/confirm|email/undo|login/second-factor/recovery)/\S{20,})",
        message.body,
    )
    return str(path)


def text_of(response: Any) -> str:
    return str(response.content.decode())


def codes(form: Any, field: str) -> list[str]:
    """The codes of a field's errors, as programs see them."""
    return [error.code for error in form.errors.as_data().get(field, [])]


@pytest.fixture
def phone(owner: User) -> Phone:
    """The owner's second factor."""
    return give_phone(owner)
