"""The cast of the sample apps: an owner, and somebody else who has the same."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import User
from tests.factories import UserFactory


@pytest.fixture
def owner(db: None) -> User:
    return UserFactory.create(username="owner")


@pytest.fixture
def colleague(db: None) -> User:
    return UserFactory.create(username="colleague")


@pytest.fixture
def browser(owner: User) -> Client:
    """The owner's."""
    made = Client()
    made.force_login(owner, "accounts.backends.IdentityBackend")
    return made
