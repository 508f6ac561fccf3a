"""Restoring old values from a record: by whom, what, and when not."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client

from accounts.models import User
from auditlog import registry, restoring
from auditlog.models import Record
from auditlog.restoring import NotRestorable
from tests.accounts.conftest import run_jobs
from tests.auditlog.conftest import browser_of, staff, text_of
from tests.factories import UserFactory
from tests.hostapp.models import Machine, Part, Secretive, Tag, Thing

pytestmark = pytest.mark.django_db


def newest(thing: Any, action: str = "update") -> Record:
    found = (
        Record.objects.filter(resource=thing._meta.label_lower, object_id=str(thing.pk), action=action)
        .order_by("-id")
        .first()
    )
    assert found is not None
    return found


def page_of(record: Record) -> str:
    return f"/admin/auditlog/record/{record.pk}/restore/"


@pytest.fixture
def ada(db: None) -> User:
    """Somebody whose name was changed."""
    ada = UserFactory.create(username="ada", full_name="Ada")
    ada.full_name = "Ada King"
    ada.save()
    return ada


def refusal(record: Record, keeper: User, editable: set[str] | None = None) -> str:
    fields = {field.name for field in Thing._meta.fields} | {"phone", "code"}
    with pytest.raises(NotRestorable) as refused:
        restoring.restore(record, editable=fields if editable is None else editable, acting_user=keeper)
    assert refused.value.message
    return refused.value.code


# By the page


def test_an_administrator_restores_an_old_value_which_is_a_change_of_its_own(ada: User) -> None:
    browser, record = browser_of(staff("Administrator")), newest(ada)
    assert page_of(record) in text_of(browser.get(page_of(record).replace("restore", "change")))
    asked = text_of(browser.get(page_of(record)))
    assert "<del>Ada</del>" in asked and "<ins>Ada King</ins>" in asked
    ada.refresh_from_db()
    assert ada.full_name == "Ada King"
    answer = browser.post(page_of(record))
    assert answer["Location"] == f"/admin/accounts/user/{ada.pk}/change/"
    ada.refresh_from_db()
    assert ada.full_name == "Ada"
    made = newest(ada)
    assert (made.origin, made.actor_label, made.reason) == ("restore", "administrator", f"record {record.pk}")
    assert (made.before["full_name"], made.after["full_name"]) == ("Ada King", "Ada")


@pytest.mark.parametrize("role", ["Auditor", "Support"])
def test_who_may_not_restore_is_not_offered_it_and_refused(ada: User, role: str) -> None:
    browser, record = browser_of(staff(role)), newest(ada)
    assert b"restore/" not in browser.get(page_of(record).replace("restore", "change")).content
    assert browser.get(page_of(record)).status_code == 403
    assert browser.post(page_of(record)).status_code == 403
    ada.refresh_from_db()
    assert ada.full_name == "Ada King"


def test_who_may_not_change_the_object_restores_nothing(keepers_browser: Client) -> None:
    colleague = UserFactory.create(username="colleague", is_staff=True, full_name="Col")
    colleague.full_name = "Cole"
    colleague.save()
    browser, record = browser_of(staff("Administrator")), newest(colleague)
    answer = browser.post(page_of(record), follow=True)
    assert "You may not edit any of the fields" in answer.content.decode()
    colleague.refresh_from_db()
    assert colleague.full_name == "Cole"


def test_rights_are_restored_only_by_who_could_set_them(ada: User, keepers_browser: Client) -> None:
    ada.is_active, ada.full_name = False, "Ada L."
    ada.save()
    record = newest(ada)
    browser = browser_of(staff("Administrator"))
    asked = browser.get(page_of(record)).content.decode()
    assert "because you may not edit them" in asked and "active" in asked
    browser.post(page_of(record))
    ada.refresh_from_db()
    assert (ada.full_name, ada.is_active) == ("Ada King", False)
    ada.is_active = True
    ada.save()
    assert browser.post(page_of(newest(ada)), follow=True).context["messages"]
    ada.refresh_from_db()
    assert ada.is_active
    keepers_browser.post(page_of(newest(ada)))
    ada.refresh_from_db()
    assert not ada.is_active


def test_an_old_address_must_be_confirmed_again(keepers_browser: Client) -> None:
    ada = UserFactory.create(username="ada", email="ada@example.com")
    ada.email = "ada@example.org"
    ada.save()
    keepers_browser.post(page_of(newest(ada)))
    ada.refresh_from_db()
    assert (ada.email, ada.email_verified_at) == ("ada@example.com", None)
    # The one has to be confirmed, the other is told that it is nobody's any more.
    assert sorted(message.to for message in run_jobs()) == [["ada@example.com"], ["ada@example.org"]]


def test_an_old_name_that_somebody_else_has_now_is_refused(keepers_browser: Client) -> None:
    ada = UserFactory.create(username="ada", email="ada@example.com")
    ada.email = "ada@example.org"
    ada.save()
    record = newest(ada)
    UserFactory.create(username="grace", email="ada@example.com")
    answer = keepers_browser.post(page_of(record), follow=True)
    assert "already belongs to an account" in answer.content.decode()
    ada.refresh_from_db()
    assert ada.email == "ada@example.org"


def test_a_restore_without_a_token_is_refused(ada: User, keeper: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(keeper, "accounts.backends.IdentityBackend")
    assert browser.post(page_of(newest(ada))).status_code == 403
    ada.refresh_from_db()
    assert ada.full_name == "Ada King"


def test_what_has_no_page_in_the_admin_is_not_restored(keepers_browser: Client) -> None:
    tag = Tag.objects.create(name="red")
    tag.name = "blue"
    tag.save()
    assert Tag not in admin.site._registry
    assert b"You may not edit" in keepers_browser.get(page_of(newest(tag)), follow=True).content


# What can be restored


def test_every_kind_of_value_comes_back_as_it_was(keeper: User) -> None:
    old = {
        "name": "one",
        "number": 1,
        "price": Decimal("9999999999.99"),
        "ratio": 0.1,
        "on": True,
        "day": date(2026, 1, 2),
        "at": datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
        "span": timedelta(days=1, microseconds=3),
        "data": {"a": [1, 2.5, {"b": None}]},
        "kind": "s",
    }
    new = {
        "name": "two",
        "number": 2,
        "price": Decimal("0.01"),
        "ratio": 1e300,
        "on": False,
        "day": None,
        "at": datetime(2027, 2, 3, tzinfo=UTC),
        "span": None,
        "data": {"c": 0.1},
        "kind": "l",
    }
    thing = Thing.objects.create(**old)
    for name, value in new.items():
        setattr(thing, name, value)
    thing.save()
    restoring.restore(newest(thing), editable=set(old), acting_user=keeper)
    thing = Thing.objects.get(pk=thing.pk)
    assert {name: getattr(thing, name) for name in old} == old
    restoring.restore(newest(thing), editable=set(old), acting_user=keeper)
    thing = Thing.objects.get(pk=thing.pk)
    assert {name: getattr(thing, name) for name in new} == new
    assert newest(thing).origin == "restore"


def test_a_relation_comes_back_unless_what_it_led_to_is_gone(keeper: User) -> None:
    car, boat = Machine.objects.create(name="car"), Machine.objects.create(name="boat")
    part = Part.objects.create(name="wheel", machine=car)
    part.machine = boat
    part.save()
    first = newest(part)
    restoring.restore(first, editable={"machine"}, acting_user=keeper)
    part.refresh_from_db()
    assert part.machine == car
    second = newest(part)
    boat.delete()
    with pytest.raises(ValidationError):
        restoring.restore(second, editable={"machine"}, acting_user=keeper)


def test_the_next_write_is_no_restore(keeper: User) -> None:
    thing = Thing.objects.create(name="one")
    Thing.objects.update(name="two")
    restoring.restore(newest(thing), editable={"name"}, acting_user=keeper)
    thing = Thing.objects.get(pk=thing.pk)
    assert (thing.name, newest(thing).origin) == ("one", "restore")
    thing.name = "three"
    thing.save()
    assert newest(thing).origin == "save"


def test_what_was_changed_since_is_not_restored(keeper: User) -> None:
    thing = Thing.objects.create(name="one")
    Thing.objects.update(name="two")
    record = newest(thing)
    Thing.objects.update(name="three")
    assert refusal(record, keeper) == "changed_since"
    Thing.objects.update(number=5, name="two")
    restoring.restore(record, editable={"name"}, acting_user=keeper)
    assert Thing.objects.get(pk=thing.pk).name == "one"


def test_what_is_gone_is_not_restored(keeper: User) -> None:
    thing = Thing.objects.create(name="one")
    Thing.objects.update(name="two")
    record = newest(thing)
    thing.delete()
    assert refusal(record, keeper) == "gone"


def test_only_changes_are_undone(keeper: User) -> None:
    thing = Thing.objects.create(name="one")
    thing.tags.add(Tag.objects.create(name="red"))
    assert refusal(newest(thing, "create"), keeper) == "not_an_update"
    assert refusal(newest(thing, "add"), keeper) == "not_an_update"
    Thing.objects.update(name="two")
    record = newest(thing)
    record.resource = "shop.order"
    assert refusal(record, keeper) == "not_audited"


@pytest.mark.parametrize(
    "change",
    [
        {"code": "x"},
        {"api_key": "x"},
        {"data": {"password": "x"}},
        {"data": {"a": [{"token": "x"}]}},
        {"name": "n", "code": "x"},
    ],
)
def test_what_the_trail_masks_is_not_restored(keeper: User, change: dict[str, Any]) -> None:
    secretive = Secretive.objects.create(name="one", code="old", api_key="old")
    Secretive.objects.filter(pk=secretive.pk).update(**change)
    assert refusal(newest(secretive), keeper, {"code", "api_key", "data", "name"}) == "no_values"


@pytest.mark.parametrize("option", ["masked", "excluded"])
def test_what_became_a_secret_later_is_not_restored(keeper: User, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secretive = Secretive.objects.create(name="one", phone="1")
    Secretive.objects.update(phone="2")
    audited = registry.of_model(Secretive)
    assert audited is not None
    options: dict[str, Any] = {option: frozenset({"phone"})}
    registered: dict[Any, Any] = registry._registered
    monkeypatch.setitem(registered, Secretive, replace(audited, **options))
    assert refusal(newest(secretive), keeper, {"phone"}) == "no_values"


def test_what_is_too_long_or_erased_is_not_restored(keeper: User) -> None:
    thing = Thing.objects.create(name="one", text="long " * 500)
    Thing.objects.update(text="short")
    assert refusal(newest(thing), keeper) == "no_values"
    secretive = Secretive.objects.create(name="one", phone="1")
    Secretive.objects.update(phone="2")
    record = newest(secretive)
    record.personal, record.erased_what = None, b"commitment"
    assert refusal(record, keeper) == "no_values"


def test_what_the_person_could_not_type_is_not_restored(keeper: User) -> None:
    thing = Thing.objects.create(name="one")
    Thing.objects.update(name="two", number=7)
    assert refusal(newest(thing), keeper, {"day"}) == "not_yours"
    restoring.restore(newest(thing), editable={"name"}, acting_user=keeper)
    assert Thing.objects.values_list("name", "number").get() == ("one", 7)


def test_what_the_database_refuses_now_changes_nothing(keeper: User) -> None:
    red = Tag.objects.create(name="red")
    Tag.objects.update(name="blue")
    Tag.objects.create(name="red")
    with pytest.raises(ValidationError, match="already exists"):
        restoring.restore(newest(red), editable={"name"}, acting_user=keeper)
    assert Tag.objects.get(pk=red.pk).name == "blue"


def test_roles_of_ours_are_not_restored_in_the_admin(keepers_browser: Client) -> None:
    group = Group.objects.get(name="Support")
    Group.objects.filter(pk=group.pk).update(name="Supporters")
    Group.objects.filter(pk=group.pk).update(name="Support")
    keepers_browser.post(page_of(newest(group)))
    group.refresh_from_db()
    assert group.name == "Support"


@pytest.mark.django_db(transaction=True)
def test_of_many_restores_at_the_same_moment_one_is_made() -> None:
    keeper = UserFactory.create(username="keeper", is_staff=True, is_superuser=True)
    thing = Thing.objects.create(name="one")
    Thing.objects.update(name="two")
    record, together = newest(thing), Barrier(8)

    def restore() -> str:
        try:
            together.wait()
            restoring.restore(record, editable={"name"}, acting_user=keeper)
        except NotRestorable as refused:
            return refused.code
        else:
            return "restored"
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        outcomes = Counter(started.result() for started in [threads.submit(restore) for _ in range(8)])
    assert outcomes == {"restored": 1, "changed_since": 7}
    assert Record.objects.filter(origin="restore", object_id=str(thing.pk), resource="hostapp.thing").count() == 1
