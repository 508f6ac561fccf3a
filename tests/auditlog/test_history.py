"""The history button of every model admin: the trail of that object, for whoever may see it."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client

from accounts.models import Invitation, User
from auditlog import acting_as, registry
from auditlog.history import ObjectHistory
from auditlog.models import Record
from auditlog.reading import PAGE
from tests.auditlog.conftest import text_of
from tests.factories import InvitationFactory, UserFactory
from tests.hostapp.models import Tag

pytestmark = pytest.mark.django_db


def path_of(thing: User | Invitation) -> str:
    return f"/admin/{thing._meta.app_label}/{thing._meta.model_name}/{thing.pk}/history/"


def test_every_model_admin_of_an_audited_model_shows_the_trail() -> None:
    audited = [model for model in admin.site._registry if registry.of_model(model)]
    assert User in audited
    assert all(isinstance(admin.site._registry[model], ObjectHistory) for model in audited)


def test_the_history_of_a_user_is_newest_first_with_values_and_links(keepers_browser: Client, keeper: User) -> None:
    ada = UserFactory.create(username="ada", full_name="Ada")
    with acting_as(keeper, reason="a wedding"):
        ada.full_name = "Ada King"
        ada.save()
    ada.groups.clear()
    answer = keepers_browser.get(path_of(ada))
    page = text_of(answer)
    assert [one.record.action for one in answer.context["records"]] == ["update", "create"]
    for text in ("by keeper", "a wedding", "<del>Ada</del>", "<ins>Ada King</ins>", "/admin/auditlog/record/"):
        assert text in page
    assert f'href="{path_of(ada)}"' in keepers_browser.get(path_of(ada).replace("history", "change")).content.decode()


def test_the_history_of_an_invitation_is_its_trail(keepers_browser: Client) -> None:
    invitation = InvitationFactory.create(email="ada@example.com")
    Invitation.objects.filter(pk=invitation.pk).update(uses=1)
    answer = keepers_browser.get(path_of(invitation))
    assert answer.context["records"][0].changed == "used"
    assert "ada@example.com" in answer.content.decode()


def test_long_histories_have_pages(keepers_browser: Client) -> None:
    ada = UserFactory.create(username="ada")
    for number in range(PAGE):
        User.objects.filter(pk=ada.pk).update(full_name=str(number))
    first = keepers_browser.get(path_of(ada))
    assert len(first.context["records"]) == PAGE
    second = keepers_browser.get(path_of(ada), {"older": str(first.context["page"].older)})
    assert [one.record.action for one in second.context["records"]] == ["create"]


def test_a_moment_shows_what_the_object_was_then(keepers_browser: Client) -> None:
    ada = UserFactory.create(username="ada", full_name="Ada")
    ada.full_name = "Ada King"
    ada.save()
    changed = Record.objects.filter(object_id=str(ada.pk), action="update").get()
    moment = changed.at.strftime("%Y-%m-%d %H:%M:%S.%f")
    lines = keepers_browser.get(path_of(ada), {"at": moment}).context["state"].lines
    shown = {line.name: str(line.new) for line in lines}
    assert (shown["full_name"], shown["password"]) == ("Ada", "not shown")
    assert "version" not in shown
    before = keepers_browser.get(path_of(ada), {"at": "2020-01-01 00:00"}).content.decode()
    assert "It did not exist then." in before
    odd = keepers_browser.get(path_of(ada), {"at": "then"})
    assert odd.status_code == 200
    assert odd.context["state"] is None


def test_who_may_see_the_object_but_not_the_trail_sees_what_happened_without_values(supports_browser: Client) -> None:
    ada = UserFactory.create(username="ada", full_name="Ada Secret")
    ada.full_name = "Ada Hidden"
    ada.save()
    answer = supports_browser.get(path_of(ada), {"at": "2099-01-01 00:00"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "Full name" in page
    assert "Secret" not in page and "Hidden" not in page
    assert "/admin/auditlog/" not in page
    assert answer.context["state"] is None
    assert Record.objects.get(action="read").new["page"] == "history"


def test_who_may_not_see_the_object_sees_no_history() -> None:
    clerk = UserFactory.create(username="clerk", is_staff=True)
    browser = Client()
    browser.force_login(clerk, "accounts.backends.IdentityBackend")
    assert browser.get(path_of(clerk)).status_code == 403


def test_the_history_of_what_is_gone_is_reached_from_its_records(keepers_browser: Client) -> None:
    tag = Tag.objects.create(name="red")
    tag.delete()
    found = Record.objects.filter(object_label="red", action="delete").get()
    answer = keepers_browser.get(f"/admin/auditlog/record/{found.pk}/history/")
    assert [one.record.action for one in answer.context["records"]] == ["delete", "create"]


def test_a_model_that_nobody_audits_keeps_djangos_own_history(keepers_browser: Client) -> None:
    from accounts.models import LoginAttempt

    attempt = LoginAttempt.objects.create(account="x", network="192.0.2.1")
    page = keepers_browser.get(f"/admin/accounts/loginattempt/{attempt.pk}/history/").content.decode()
    assert "change history" in page.lower()
