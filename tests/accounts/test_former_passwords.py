"""``PASSWORD_HISTORY``: the last passwords are not chosen again, and nothing is kept without it."""

from __future__ import annotations

from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import links, services
from accounts.models import FormerPassword, User
from auditlog.models import Record
from config import retention
from tests.accounts.conftest import codes, sign_in
from tests.factories import PASSWORD
from tests.live import in_parallel

pytestmark = pytest.mark.django_db

CHANGE = "/accounts/password/change/"
NEW = ["Another-Password-1", "Another-Password-2", "Another-Password-3", "Another-Password-4"]


@pytest.fixture
def history(settings: Any) -> None:
    settings.PASSWORD_HISTORY = 2


def kept(user: User, *candidates: str) -> list[str]:
    """Which of the candidates are kept as former passwords, the newest first."""
    hashes = FormerPassword.objects.filter(user=user).order_by("-pk").values_list("password", flat=True)
    return [next(each for each in candidates if check_password(each, stored)) for stored in hashes]


def change(user: User, password: str) -> None:
    services.change_password(User.objects.get(pk=user.pk), password)


def refusal(user: User, password: str) -> str:
    with pytest.raises(ValidationError) as refused:
        change(user, password)
    return str(refused.value.code)


def test_without_a_history_nothing_is_kept_or_asked(owner: User) -> None:
    with CaptureQueriesContext(connection) as captured:
        change(owner, NEW[0])
        change(owner, NEW[0])
    assert captured.captured_queries
    assert not [query for query in captured.captured_queries if "formerpassword" in query["sql"]]
    assert not FormerPassword.objects.exists()


@pytest.mark.usefixtures("history")
def test_the_current_and_the_last_ones_are_refused_and_older_ones_are_free_again(owner: User) -> None:
    assert refusal(owner, PASSWORD) == "password_used_before"
    change(owner, NEW[0])
    change(owner, NEW[1])
    assert kept(owner, PASSWORD, *NEW) == [NEW[0], PASSWORD]
    for used in (NEW[1], NEW[0], PASSWORD):
        assert refusal(owner, used) == "password_used_before"
    change(owner, NEW[2])
    assert kept(owner, PASSWORD, *NEW) == [NEW[1], NEW[0]]  # two and no more
    change(owner, PASSWORD)
    assert User.objects.get().check_password(PASSWORD)


@pytest.mark.usefixtures("history")
def test_the_page_says_so_beside_the_field(owner: User) -> None:
    change(owner, NEW[0])
    browser = Client()
    sign_in(browser, "owner", NEW[0])
    form = {"old_password": NEW[0], "new_password1": PASSWORD, "new_password2": PASSWORD}
    response = browser.post(CHANGE, form)
    assert response.status_code == 422
    assert codes(response.context["form"], "new_password1") == ["password_used_before"]
    assert response.context["form"].verdict.level == "refused"
    assert User.objects.get().check_password(NEW[0])
    assert browser.get("/accounts/profile/").status_code == 200


@pytest.mark.usefixtures("history")
def test_a_refused_reset_leaves_its_link_usable(owner: User, stranger: Client) -> None:
    page = stranger.get(links.set_password_url(owner).removeprefix("http://localhost:8000"), follow=True)
    path = page.request["PATH_INFO"]
    response = stranger.post(path, {"new_password1": PASSWORD, "new_password2": PASSWORD})
    assert response.status_code == 422
    assert codes(response.context["form"], "new_password1") == ["password_used_before"]
    assert stranger.post(path, {"new_password1": NEW[0], "new_password2": NEW[0]}).status_code == 303
    assert kept(owner, PASSWORD) == [PASSWORD]


@pytest.mark.usefixtures("history")
def test_every_way_to_save_a_password_keeps_the_old_one(owner: User) -> None:
    token = default_token_generator.make_token(owner)
    services.reset_password(User.objects.get(), token, NEW[0])
    whole = User.objects.get()  # as `manage.py changepassword` does
    whole.set_password(NEW[1])
    whole.save()
    assert kept(owner, PASSWORD, *NEW) == [NEW[0], PASSWORD]


@pytest.mark.usefixtures("history")
def test_what_is_no_change_of_the_password_keeps_nothing(owner: User, stranger: Client) -> None:
    User.objects.update(password=make_password(PASSWORD, hasher="scrypt"))
    assert sign_in(stranger, "owner").status_code == 302  # its hash is replaced
    user = User.objects.get()
    assert user.password.startswith("bcrypt")
    user.full_name = "Olive"
    user.save()
    services.update_profile(user, version=User.objects.get().version)
    user.set_password(NEW[0])
    user.save(update_fields=[])  # nothing, says Django
    user.save(update_fields=["full_name"])
    services.add_user(User(username="new", email="new@example.com"), acting_user=None)
    new = User.objects.get(username="new")
    new.set_password(NEW[0])
    new.save()  # the first password of a colleague follows none
    assert not FormerPassword.objects.exists()


@pytest.mark.usefixtures("history")
def test_a_change_that_fails_keeps_nothing(owner: User, colleague: User) -> None:
    user = User.objects.get(pk=owner.pk)
    user.set_password(NEW[0])
    user.email = colleague.email
    with pytest.raises(IntegrityError):
        user.save()
    assert not FormerPassword.objects.filter(user=owner).exists()


@pytest.mark.usefixtures("history")
def test_they_are_masked_in_the_trail_and_go_with_their_owner(owner: User) -> None:
    change(owner, NEW[0])
    (former,) = FormerPassword.objects.all()
    (record,) = Record.objects.filter(resource="accounts.formerpassword")
    assert (record.action, record.reason) == ("create", "own password changed")
    assert former.password not in str(record.after)
    User.objects.get().delete()
    assert not FormerPassword.objects.exists()


def test_when_the_history_is_switched_off_the_old_ones_go(owner: User, settings: Any) -> None:
    rule = retention.rules()["former_passwords"]
    settings.PASSWORD_HISTORY = 2
    change(owner, NEW[0])
    assert rule.overdue() == 0
    settings.PASSWORD_HISTORY = 0
    assert rule.overdue() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("history")
def test_two_changes_at_once_keep_both_former_passwords(owner: User) -> None:
    start = Barrier(2)

    def change_at_once(password: str) -> None:
        user = User.objects.get(pk=owner.pk)
        user.set_password(password)
        start.wait()
        user.save(update_fields=["password"])
        connections.close_all()

    in_parallel([partial(change_at_once, password) for password in NEW[:2]])
    (last,) = [password for password in NEW[:2] if User.objects.get().check_password(password)]
    (first,) = set(NEW[:2]) - {last}
    assert kept(owner, PASSWORD, *NEW) == [first, PASSWORD]
