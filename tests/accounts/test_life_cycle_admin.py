"""The end of accounts in the admin: states, actions, and the page that erases one person."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client

from accounts import life_cycle, services
from accounts.life_cycle_admin import StateFilter
from accounts.models import Session, User, UserState
from auditlog.models import Record
from tests.accounts.conftest import codes, run_jobs, text_of
from tests.accounts.test_user_admin import LIST, as_form, change_path, confirm, run_action
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def state_of(user: User) -> UserState:
    return User.objects.get(pk=user.pk).state


def erase_path(user: User) -> str:
    return f"{LIST}{user.pk}/erase/"


@pytest.fixture
def clerk(db: None) -> User:
    """An Administrator who is no superuser."""
    user = UserFactory.create(username="clerk", is_staff=True)
    user.groups.set(Group.objects.filter(name="Administrator"))
    return user


@pytest.fixture
def clerks_browser(clerk: User) -> Client:
    browser = Client()
    browser.force_login(clerk)
    return browser


@pytest.mark.parametrize("who", ["admins_browser", "clerks_browser"])
def test_erasures_are_planned_and_cancelled_from_the_list(
    request: pytest.FixtureRequest, who: str, owner: User, colleague: User
) -> None:
    browser = request.getfixturevalue(who)
    assert "2 users changed." in text_of(run_action(browser, "schedule_erasure", owner, colleague))
    assert (state_of(owner), state_of(colleague)) == (UserState.SCHEDULED, UserState.SCHEDULED)
    assert sorted(message.to[0] for message in run_jobs()) == ["colleague@example.com", "owner@example.com"]
    page = text_of(run_action(browser, "cancel_erasure", owner))
    assert "1 user changed." in page
    assert (state_of(owner), state_of(colleague)) == (UserState.ACTIVE, UserState.SCHEDULED)
    assert "No erasure of this account is planned." in text_of(run_action(browser, "cancel_erasure", owner))


def test_one_person_is_erased_by_typing_the_name(admins_browser: Client, owner: User, colleague: User) -> None:
    together = run_action(admins_browser, "erase", owner, colleague)
    assert "one at a time" in text_of(together)
    page = run_action(admins_browser, "erase", owner)
    assert page.redirect_chain == [(erase_path(owner), 302)]
    assert "owner@example.com" in text_of(page)
    for typed in ("", "own", "OWNER", "colleague", "\0"):
        refused = admins_browser.post(erase_path(owner), {"username": typed})
        assert refused.status_code == 422
    assert codes(admins_browser.post(erase_path(owner), {"username": "colleague"}).context["form"], "username") == [
        "other_name"
    ]
    assert state_of(owner) == UserState.ACTIVE
    answer = admins_browser.post(erase_path(owner), {"username": "owner"}, follow=True)
    assert "“owner” is being erased" in text_of(answer)
    assert state_of(owner) == UserState.SCHEDULED
    run_jobs()
    assert (state_of(owner), state_of(colleague)) == (UserState.ERASED, UserState.ACTIVE)


def test_nobody_erases_whom_they_may_not_edit(
    clerks_browser: Client, clerk: User, administrator: User, inviter: User
) -> None:
    for other in (administrator, inviter):
        page = text_of(run_action(clerks_browser, "schedule_erasure", other))
        assert f"“{other.username}”: You may not edit this person." in page
        assert clerks_browser.post(erase_path(other), {"username": other.username}).status_code == 403
    assert "This is your own account" in text_of(run_action(clerks_browser, "schedule_erasure", clerk))
    assert {state_of(user) for user in (administrator, inviter, clerk)} == {UserState.ACTIVE}


def test_the_list_says_when_who_is_erased_and_that_each_gets_a_mail(
    admins_browser: Client, administrator: User, owner: User, colleague: User
) -> None:
    page = text_of(run_action(admins_browser, "schedule_erasure", owner, colleague, administrator))
    planned = User.objects.order_by("-erase_at").exclude(erase_at=None)[0].erase_at
    assert planned is not None
    assert f"Erased from {planned.day} {planned:%B %Y, %H:%M} UTC on" in page
    assert "each told so by mail: “colleague”, “owner”." in page
    assert "“keeper”: This is your own account." in page


def test_the_list_says_who_was_shut_out_and_names_ten(admins_browser: Client, administrator: User, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=False)
    many = [UserFactory.create(username=f"many{number:02}") for number in range(12)]
    page = text_of(run_action(admins_browser, "deactivate", owner, *many))
    assert "12 users changed. Shut out, and signed out everywhere: “many11”, “many10”" in page
    assert "“many02” and 2 more." in page
    assert "“owner”: Shut out already." in page
    page = text_of(run_action(admins_browser, "deactivate", owner))
    assert "0 users changed." in page
    page = text_of(run_action(admins_browser, "restore", owner, administrator))
    assert "1 user changed. Let in again: “owner”." in page
    assert "“keeper”: This is your own account." in page


def test_nobody_types_their_own_name_to_be_refused(clerks_browser: Client, clerk: User) -> None:
    page = run_action(clerks_browser, "erase", clerk)
    assert page.redirect_chain == [(LIST, 302)]
    assert "“clerk”: This is your own account." in text_of(page)
    for answer in (
        clerks_browser.get(erase_path(clerk), follow=True),
        clerks_browser.post(erase_path(clerk), {"username": "clerk"}, follow=True),
    ):
        assert answer.redirect_chain == [(change_path(clerk), 302)]
        assert "“clerk”: This is your own account." in text_of(answer)
    assert erase_path(clerk) not in text_of(clerks_browser.get(change_path(clerk)))
    assert state_of(clerk) == UserState.ACTIVE


def test_who_lacks_the_permission_neither_sees_nor_uses_it(inviters_browser: Client, owner: User) -> None:
    assert inviters_browser.get(erase_path(owner)).status_code == 403
    page = text_of(inviters_browser.get(change_path(owner)))
    assert "Erase this person" not in page
    for action in ("schedule_erasure", "cancel_erasure", "erase"):
        assert f'value="{action}"' not in text_of(inviters_browser.get(LIST))
        run_action(inviters_browser, action, owner)
    assert state_of(owner) == UserState.ACTIVE


def test_the_state_is_shown_in_list_and_page(admins_browser: Client, owner: User, administrator: User) -> None:
    planned = life_cycle.schedule_erasure(owner, after=life_cycle.grace(), acting_user=administrator)
    for path in (LIST, change_path(owner)):
        assert f">{planned.day} {planned:%B %Y, %H:%M} UTC</time>" in text_of(admins_browser.get(path))
    assert erase_path(owner) in text_of(admins_browser.get(change_path(owner)))


def test_a_tombstone_is_for_looking_only(admins_browser: Client, owner: User) -> None:
    life_cycle.erase(owner, acting_user=None)
    page = admins_browser.get(change_path(owner))
    assert page.status_code == 200
    assert "erased person" in text_of(page) and 'name="_save"' not in text_of(page)
    assert admins_browser.post(change_path(owner), as_form(owner, full_name="Back")).status_code == 403
    assert admins_browser.get(erase_path(owner)).status_code == 404
    for action in ("restore", "schedule_erasure", "deactivate"):
        assert "erased, and that is for good" in text_of(run_action(admins_browser, action, owner))


def test_the_form_explains_why_the_last_superuser_stays_one(
    admins_browser: Client, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = UserFactory.create(username="other", is_superuser=True, is_staff=True)
    save_user = services.save_user

    def demoted_meanwhile(*args: Any, **options: Any) -> None:
        """As when the other one demotes the administrator in the very moment."""
        User.objects.filter(pk=administrator.pk).update(is_superuser=False)
        save_user(*args, **options)

    monkeypatch.setattr(services, "save_user", demoted_meanwhile)
    form = as_form(other, full_name="Typed")
    del form["is_superuser"]
    answer = admins_browser.post(change_path(other), form)
    assert answer.status_code == 200
    assert codes(answer.context["adminform"].form, "__all__") == ["last_superuser"]
    assert 'value="Typed"' in text_of(answer)
    assert User.objects.get(pk=other.pk).is_superuser


def test_deactivating_by_the_form_is_the_same_event(admins_browser: Client, owner: User) -> None:
    form = as_form(owner)
    del form["is_active"]
    assert admins_browser.post(change_path(owner), form).status_code == 302
    assert state_of(owner) == UserState.DEACTIVATED
    assert admins_browser.post(change_path(owner), {**form, "is_active": "on"}).status_code == 302
    assert state_of(owner) == UserState.ACTIVE


@pytest.mark.parametrize(
    ("state", "index"),
    [
        ("deactivated", "accounts_user_deactivated"),
        ("scheduled", "accounts_user_erase_at"),
        ("erased", "accounts_user_erased"),
    ],
)
def test_each_rare_state_is_found_by_its_index(state: str, index: str, rf: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the table is small
    chosen = StateFilter(rf.get("/"), {"state": [state]}, User, admin.site.get_model_admin(User)).queryset(
        rf.get("/"), User.objects.all()
    )
    assert index in chosen.explain()


@pytest.mark.parametrize("action", ["deactivate", "schedule_erasure", "sign_out"])
def test_what_shuts_people_out_is_asked_first_and_recorded_with_its_reason(
    admins_browser: Client, owner: User, colleague: User, action: str
) -> None:
    Client().force_login(owner)
    chosen = {"action": action, "_selected_action": [str(owner.pk), str(colleague.pk)]}
    asked = admins_browser.post(LIST, chosen)
    assert asked.status_code == 200
    assert all(words in text_of(asked) for words in ("This is about 2 people.", "<li>owner</li>", "<li>colleague</li>"))
    assert (state_of(owner), Session.objects.count()) == (UserState.ACTIVE, 2)
    long = confirm(admins_browser, asked.context["form"], reason="why\nnot")
    assert (long.status_code, codes(long.context["form"], "reason")) == (422, ["control_characters"])
    assert "<li>owner</li>" in text_of(long)
    answer = confirm(admins_browser, asked.context["form"], reason="They asked by letter.")
    assert answer.redirect_chain == [(LIST, 302)]
    assert Session.objects.count() == 1
    assert Record.objects.filter(reason="They asked by letter.").exists()
    assert not User.objects.filter(pk__in=[owner.pk, colleague.pk], is_active=True, erase_at=None).exists() or (
        action == "sign_out"
    )


def test_nothing_is_confirmed_that_was_not_offered(
    inviters_browser: Client, admins_browser: Client, owner: User
) -> None:
    form = {"ids": str(owner.pk), "reason": ""}
    assert inviters_browser.post(f"{LIST}confirm/", form | {"action": "deactivate"}).status_code == 403
    for action in ("", "restore", "delete_selected", "__class__"):
        assert admins_browser.post(f"{LIST}confirm/", form | {"action": action}).status_code == 403
    assert state_of(owner) == UserState.ACTIVE
