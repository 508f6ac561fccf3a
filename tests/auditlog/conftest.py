"""The cast of these tests."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group
from django.http.response import HttpResponseBase
from django.test import Client

from accounts.models import User
from tests.factories import UserFactory


def staff(role: str) -> User:
    """A member of staff who holds this role."""
    user = UserFactory.create(username=role.lower(), is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    return user


def browser_of(user: User) -> Client:
    browser = Client(REMOTE_ADDR="192.0.2.7", HTTP_USER_AGENT="Firefox/1")
    browser.force_login(user, "accounts.backends.IdentityBackend")
    return browser


@pytest.fixture
def keeper(db: None) -> User:
    """A superuser."""
    return UserFactory.create(username="keeper", is_staff=True, is_superuser=True)


@pytest.fixture
def keepers_browser(keeper: User) -> Client:
    return browser_of(keeper)


@pytest.fixture
def auditors_browser(db: None) -> Client:
    return browser_of(staff("Auditor"))


@pytest.fixture
def supports_browser(db: None) -> Client:
    return browser_of(staff("Support"))


def text_of(page: HttpResponseBase) -> str:
    """The page without the white space that its templates are laid out with."""
    return re.sub(r"\s+(?=</)", "", b"".join(page).decode())
