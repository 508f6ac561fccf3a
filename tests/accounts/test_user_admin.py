"""Accounts in the admin console."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import searching, services
from accounts.asking_admin import ActionForm
from accounts.errors import MESSAGES, AccountError
from accounts.models import ReservedUsername, User
from auditlog.models import Record
from config.paging import CappedPaginator
from tests.accounts.conftest import codes, jobs, link_in, run_jobs, sign_in, text_of
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/user/"
ADD = "/admin/accounts/user/add/"
FORM = {"username": "Newcomer", "email": "newcomer@example.com", "full_name": "Nora", "is_active": "on"}


def change_path(user: User) -> str:
    return f"{LIST}{user.pk}/change/"


def as_form(user: User, **changes: str) -> dict[str, str]:
    """What the browser sends for `user` when only `changes` were typed."""
    rights = {name: "on" for name in ("is_active", "is_staff", "is_superuser") if getattr(user, name)}
    return {"username": user.username, "email": user.email, "full_name": user.full_name, **rights, **changes}


def listed(browser: Client, query: str = "") -> list[str]:
    response = browser.get(LIST + query)
    assert response.status_code == 200
    return [user.username for user in response.context["cl"].result_list]


def run_action(browser: Client, action: str, *users: User) -> Any:
    """Press it in the list, and confirm it where that asks."""
    fields = {"action": action, "_selected_action": [str(user.pk) for user in users], "index": "0"}
    answer = browser.post(LIST, fields, follow=True)
    form = (answer.context or {}).get("form")
    return confirm(browser, form) if isinstance(form, ActionForm) else answer


def confirm(browser: Client, form: ActionForm, **typed: str) -> Any:
    return browser.post(f"{LIST}confirm/", {**form.initial, **typed}, follow=True)


@pytest.fixture
def supporter(db: None) -> Client:
    """A browser of staff with every permission on users, but no superuser."""
    user = UserFactory.create(username="supporter", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    browser = Client()
    browser.force_login(user)
    return browser


# --- who may enter ----------------------------------------------------------------------------------


def test_only_staff_with_a_permission_get_in(owners_browser: Client, stranger: Client) -> None:
    without_rights = Client()
    without_rights.force_login(UserFactory.create(is_staff=True))
    assert without_rights.get(LIST).status_code == 403
    for browser in (owners_browser, stranger):
        response = browser.get(LIST)
        assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={LIST}")


def test_staff_sign_in_at_the_admins_door_by_name_or_address(administrator: User) -> None:
    for name in ("KEEPER", "Keeper@example.com"):
        response = Client().post(f"/admin/login/?next={LIST}", {"username": name, "password": PASSWORD})
        assert (response.status_code, response["Location"]) == (302, LIST)


def test_members_are_refused_there_in_the_words_of_a_wrong_password(owner: User, administrator: User) -> None:
    def refused(name: str, password: str) -> tuple[int, Any]:
        response = Client().post("/admin/login/", {"username": name, "password": password})
        return response.status_code, response.context["form"].non_field_errors()

    assert refused("owner", PASSWORD) == refused("keeper", "Wrong-Password-1") == refused("nobody", PASSWORD)


# --- the list ---------------------------------------------------------------------------------------


def test_the_newest_come_first(admins_browser: Client) -> None:
    first, second = UserFactory.create(username="first"), UserFactory.create(username="second")
    User.objects.filter(pk=first.pk).update(id=uuid.UUID(int=1))
    User.objects.filter(pk=second.pk).update(id=uuid.UUID(int=2))
    assert listed(admins_browser) == ["keeper", "second", "first"]


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("jane", ["jane.doe"]),
        ("JANE.D", ["jane.doe"]),
        ("ｊａｎｅ", ["jane.doe"]),
        ("ne.d", []),  # the beginning, which an index serves on a table of any size
        ("Jane  Mary", ["jane.doe"]),
        ("jane mary öz", ["jane.doe"]),
        ("ÖZGÜR", ["jane.doe"]),
        ("mary", []),
        ("mail.jane@exam", ["jane.doe"]),
        ("Mail.Jane@Example.com", ["jane.doe"]),
        ("post@bücher.de", ["reader"]),
        ("POST@xn--bcher", ["reader"]),
        ("%", []),
        ("_", []),
        ("ja_e", []),
        ("'", []),
        ("\\", []),
        ("  ", ["keeper", "reader", "jane.doe"]),
        ("@", []),
    ],
)
def test_search_by_the_beginning_of_name_or_address(admins_browser: Client, term: str, found: list[str]) -> None:
    UserFactory.create(username="jane.doe", email="mail.jane@example.com", full_name="Jane Mary Özgür")
    UserFactory.create(username="reader", email="post@bücher.de")
    assert sorted(listed(admins_browser, f"?q={term.replace('%', '%25')}")) == sorted(found)


def test_search_by_a_whole_id(admins_browser: Client, owner: User, colleague: User) -> None:
    assert listed(admins_browser, f"?q={owner.pk}") == ["owner"]
    assert listed(admins_browser, f"?q={owner.pk.hex.upper()}") == ["owner"]
    assert listed(admins_browser, f"?q={str(owner.pk)[:-1]}") == []


def test_a_common_beginning_shows_some_and_says_that_there_are_more(
    admins_browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    UserFactory.create(username="ada.b", email="z@example.com", full_name="Ada Byron")
    UserFactory.create(username="ada.a", email="y@example.com", is_active=False)
    assert "Type more letters" not in admins_browser.get(LIST + "?q=ada").content.decode()
    monkeypatch.setattr(searching, "MOST", 1)
    assert "Type more letters" in admins_browser.get(LIST + "?q=ada").content.decode()
    assert "Type more letters" not in admins_browser.get(LIST + "?q=ada.a").content.decode()
    # Of those that the filters leave, not of all.
    assert listed(admins_browser, "?q=ada&state=deactivated") == ["ada.a"]


def test_every_way_to_find_somebody_reads_a_range_of_one_index(db: None) -> None:
    """Whatever the planner knows: sequential scans and sorts are off, so that what is left is what the indexes can."""
    for way in searching._ways("ada"):
        with connection.cursor() as cursor, transaction.atomic():
            cursor.execute("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off")
            statement, parameters = searching._range(User.objects.all(), *way).query.sql_with_params()
            cursor.execute(f"EXPLAIN (FORMAT TEXT) {statement}", parameters)
            plan = "\n".join(line for (line,) in cursor.fetchall())
        index = f"accounts_user_{way[0].replace(' ', '_')}"
        assert f"Index Scan using {index} " in plan, plan
        assert "Sort" not in plan, plan
        assert "~>=~ 'ada'" in plan, plan


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?state=deactivated", ["shut-out"]),
        ("?state=scheduled", ["leaving"]),
        ("?state=erased", ["gone"]),
        ("?is_staff__exact=1", ["keeper"]),
        ("?is_superuser__exact=1", ["keeper"]),
        ("?is_superuser__exact=0&state=active", ["owner"]),
        ("?created_at__gte=2000-01-01T00:00:00Z", ["gone", "keeper", "leaving", "owner", "shut-out"]),
        ("?created_at__lt=2000-01-01T00:00:00Z", []),
    ],
)
def test_filters(admins_browser: Client, owner: User, query: str, found: list[str]) -> None:
    UserFactory.create(username="shut-out", is_active=False)
    UserFactory.create(username="leaving", erase_at=timezone.now())
    UserFactory.create(username="gone", deleted_at=timezone.now(), is_active=False)
    assert sorted(listed(admins_browser, query)) == found


def test_three_users_cost_as_many_queries_as_one(
    admins_browser: Client, django_assert_num_queries: Callable[..., Any]
) -> None:
    with django_assert_num_queries(4):  # session, who is signed in, the count, the page
        assert len(listed(admins_browser)) == 1
    UserFactory.create_batch(3)
    with django_assert_num_queries(4):
        assert len(listed(admins_browser)) == 4


def test_the_list_shows_50_a_page_and_never_counts_the_whole(
    admins_browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.bulk_create([User(username=f"m{number}m", email=f"{number}@example.com") for number in range(60)])
    assert len(listed(admins_browser)) == 50
    assert len(listed(admins_browser, "?p=2")) == 11
    assert len(listed(admins_browser, "?all=")) == 50
    monkeypatch.setattr(CappedPaginator, "COUNT_CAP", 55)
    assert admins_browser.get(LIST).context["cl"].result_count == 55


# --- adding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ADD, change_path])
def test_the_page_of_a_user_does_not_look_each_permission_up(admins_browser: Client, path: Any) -> None:
    someone = UserFactory.create()
    with CaptureQueriesContext(connection) as asked:
        response = admins_browser.get(path if isinstance(path, str) else path(someone))
    assert response.content.count(b"<option") >= Permission.objects.count() > 80
    assert len(asked) < 20


def test_adding_a_user_mails_a_link_and_never_asks_for_a_password(admins_browser: Client, administrator: User) -> None:
    page = text_of(admins_browser.get(ADD))
    assert 'type="password"' not in page
    response = admins_browser.post(ADD, FORM | {"password": "Chosen-By-Other-1", "password1": "Chosen-By-Other-1"})
    assert (response.status_code, response["Location"]) == (302, LIST)
    user = User.objects.get(username="Newcomer")
    assert (user.has_usable_password(), user.may_sign_in, user.is_staff) == (False, True, False)
    assert jobs() == [("send_mail_to_user", ["set_password", str(user.pk)])]
    (message,) = run_jobs()
    assert message.to == ["newcomer@example.com"]
    browser = Client()
    form = browser.get(link_in(message))["Location"]
    assert browser.post(form, {"new_password1": PASSWORD, "new_password2": PASSWORD}).status_code == 303
    assert sign_in(browser, "newcomer").status_code == 302


def test_adding_a_user_with_rights(admins_browser: Client) -> None:
    group = Group.objects.create(name="Auditors")
    admins_browser.post(ADD, FORM | {"is_staff": "on", "groups": str(group.pk)})
    user = User.objects.get(username="Newcomer")
    assert (user.is_staff, list(user.groups.all())) == (True, [group])


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"username": ""}, "username", ["required"]),
        ({"username": "a b"}, "username", ["username_characters"]),
        ({"username": "Admin"}, "username", ["username_reserved"]),
        ({"username": "OWNER"}, "username", ["username_taken"]),
        ({"username": "0wner"}, "username", ["username_look_alike"]),
        ({"username": "former"}, "username", ["username_retired"]),
        ({"email": "nonsense"}, "email", ["email_invalid"]),
        ({"email": "OWNER@Example.com"}, "email", ["email_taken"]),
        ({"avatar_url": "http://example.com/a.png"}, "avatar_url", ["invalid"]),
        ({"groups": "999999"}, "groups", ["invalid_choice"]),
        ({"groups": "x"}, "groups", ["invalid_pk_value"]),
    ],
)
def test_a_bad_field_is_explained_beside_it(
    admins_browser: Client, owner: User, changes: dict[str, str], field: str, expected: list[str]
) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    ReservedUsername.objects.create(username_canonical="former", holder=owner, reserved_until=tomorrow)
    response = admins_browser.post(ADD, FORM | changes)
    assert response.status_code == 200
    form = response.context["adminform"].form
    assert (list(form.errors), codes(form, field)) == ([field], expected)
    assert User.objects.count() == 2
    assert jobs() == []


def test_a_look_alike_can_be_approved(admins_browser: Client, owner: User) -> None:
    assert admins_browser.post(ADD, FORM | {"username": "0wner", "look_alike_approved": "on"}).status_code == 302
    assert User.objects.get(username="0wner").look_alike_approved
    response = admins_browser.post(ADD, FORM | {"username": "OWNER", "look_alike_approved": "on"})
    assert codes(response.context["adminform"].form, "username") == ["username_taken"]


def unseen_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the form's first check find nobody, as when the twin arrives right after it."""
    looks: list[Any] = []
    check: Callable[[User], AccountError | None] = getattr(services, name)

    def first_look_finds_nobody(user: User) -> AccountError | None:
        looks.append(user)
        return check(user) if len(looks) > 1 else None

    monkeypatch.setattr(services, name, first_look_finds_nobody)


@pytest.mark.parametrize(
    ("check", "changes", "field", "code"),
    [
        ("username_refusal", {"username": "OWNER"}, "username", "username_taken"),
        ("username_refusal", {"username": "0wner"}, "username", "username_look_alike"),
        ("email_refusal", {"email": "OWNER@example.com"}, "email", "email_taken"),
    ],
)
@pytest.mark.parametrize("adding", [True, False], ids=["add", "edit"])
def test_a_twin_that_arrives_between_check_and_write_is_explained_too(
    admins_browser: Client,
    owner: User,
    colleague: User,
    monkeypatch: pytest.MonkeyPatch,
    check: str,
    changes: dict[str, str],
    field: str,
    code: str,
    adding: bool,
) -> None:
    unseen_once(monkeypatch, check)
    path, form = (ADD, FORM | changes) if adding else (change_path(colleague), as_form(colleague, **changes))
    response = admins_browser.post(path, form)
    assert response.status_code == 200
    assert codes(response.context["adminform"].form, field) == [code]
    assert str(MESSAGES[code]) in text_of(response)
    assert f'value="{changes[field]}"' in text_of(response)
    assert sorted(User.objects.values_list("username", flat=True)) == ["colleague", "keeper", "owner"]
    assert jobs() == []


# --- editing ----------------------------------------------------------------------------------------


def test_an_edit_is_saved_and_a_rename_keeps_the_old_name(admins_browser: Client, owner: User, settings: Any) -> None:
    settings.NAME_RESERVED_DAYS = 7
    response = admins_browser.post(change_path(owner), as_form(owner, username="Renamed", full_name="New Name"))
    assert (response.status_code, response["Location"]) == (302, LIST)
    owner.refresh_from_db()
    assert (owner.username, owner.username_canonical, owner.full_name) == ("Renamed", "renamed", "New Name")
    former = ReservedUsername.objects.get()
    assert (former.username_canonical, (former.reserved_until - timezone.now()).days) == ("owner", 6)


def test_saving_an_unchanged_form_changes_nothing(admins_browser: Client, owner: User) -> None:
    before = User.objects.values().get(pk=owner.pk)
    assert admins_browser.post(change_path(owner), as_form(owner)).status_code == 302
    assert User.objects.values().get(pk=owner.pk) == before


def test_an_edit_keeps_the_password(admins_browser: Client, owner: User) -> None:
    admins_browser.post(change_path(owner), as_form(owner, full_name="New", password="x"))
    assert User.objects.get(pk=owner.pk).check_password(PASSWORD)
    assert jobs() == []


def test_the_hash_is_shown_nowhere(admins_browser: Client, owner: User) -> None:
    for path in (LIST, change_path(owner), f"{LIST}{owner.pk}/history/", ADD):
        page = text_of(admins_browser.get(path))
        assert owner.password not in page
        assert "bcrypt" not in page


def test_nobody_is_deleted(admins_browser: Client, owner: User) -> None:
    assert admins_browser.post(f"{LIST}{owner.pk}/delete/", {"post": "yes"}).status_code == 403
    run_action(admins_browser, "delete_selected", owner)
    assert User.objects.filter(pk=owner.pk).exists()


# --- rights -----------------------------------------------------------------------------------------


def rights_of(user: User) -> tuple[Any, ...]:
    user = User.objects.get(pk=user.pk)
    return user.is_active, user.is_staff, user.is_superuser, user.groups.count(), user.user_permissions.count()


def all_rights() -> dict[str, str]:
    group = Group.objects.create(name="Everything")
    permission = Permission.objects.first()
    assert permission is not None
    return {
        "is_staff": "on",
        "is_superuser": "on",
        "groups": str(group.pk),
        "user_permissions": str(permission.pk),
    }


def test_a_superuser_hands_out_rights(admins_browser: Client, owner: User) -> None:
    admins_browser.post(change_path(owner), as_form(owner, **all_rights()))
    assert rights_of(owner) == (True, True, True, 1, 1)


def test_other_staff_edit_people_but_hand_out_no_rights(supporter: Client, owner: User) -> None:
    form = as_form(owner, full_name="New", **all_rights())
    del form["is_active"]
    assert supporter.post(change_path(owner), form).status_code == 302
    assert User.objects.get(pk=owner.pk).full_name == "New"
    assert rights_of(owner) == (True, False, False, 0, 0)
    again = {"is_staff": "on", "is_superuser": "on", "groups": str(Group.objects.get(name="Everything").pk)}
    assert supporter.post(ADD, FORM | again).status_code == 302
    newcomer = User.objects.get(username="Newcomer")
    assert rights_of(newcomer) == (True, False, False, 1, 0)
    assert newcomer.groups.get().name == "Member"


def test_other_staff_do_not_edit_whoever_holds_a_permission_that_they_lack(supporter: Client, owner: User) -> None:
    """Who may change an address could take the account over."""
    owner.user_permissions.set(Permission.objects.filter(codename="change_group"))
    assert supporter.post(change_path(owner), as_form(owner, email="mine@example.com")).status_code == 403
    owner.user_permissions.set(Permission.objects.filter(codename="view_user"))
    assert supporter.post(change_path(owner), as_form(owner, full_name="New")).status_code == 302


def test_other_staff_do_not_edit_a_superuser(supporter: Client, administrator: User) -> None:
    response = supporter.post(change_path(administrator), as_form(administrator, email="mine@example.com"))
    assert response.status_code == 403
    assert User.objects.get(pk=administrator.pk).email == "keeper@example.com"


def test_nobody_changes_the_own_rights(admins_browser: Client, administrator: User, supporter: Client) -> None:
    before = rights_of(administrator)
    form = {"username": "keeper", "email": "keeper@example.com", "full_name": "Still Here"} | all_rights()
    del form["is_superuser"]
    assert admins_browser.post(change_path(administrator), form).status_code == 302
    assert User.objects.get(pk=administrator.pk).full_name == "Still Here"
    assert rights_of(administrator) == before
    oneself = User.objects.get(username="supporter")
    before = rights_of(oneself)
    assert supporter.post(change_path(oneself), as_form(oneself, is_superuser="on")).status_code == 302
    assert rights_of(oneself) == before


def with_groups(user: User, *names: str, **changes: str) -> dict[str, Any]:
    """What the browser sends when these roles are chosen."""
    return {**as_form(user, **changes), "groups": [str(pk) for pk in role_ids(*names)]}


def role_ids(*names: str) -> list[int]:
    return list(Group.objects.filter(name__in=names).values_list("pk", flat=True))


def is_staff(user: User) -> bool:
    return User.objects.get(pk=user.pk).is_staff


def updates_of(user: User) -> list[Record]:
    return list(Record.objects.filter(resource="accounts.user", object_id=str(user.pk), action=Record.Action.UPDATE))


def test_who_is_given_a_role_of_the_staff_in_the_form_enters_until_the_last_is_taken(
    admins_browser: Client, owner: User
) -> None:
    owner.groups.set(role_ids("Member"))
    page = admins_browser.post(change_path(owner), with_groups(owner, "Member", "Auditor", "Support"), follow=True)
    assert "“owner” may enter this site now, by their role." in text_of(page)
    assert is_staff(owner)
    owners = Client()
    owners.force_login(User.objects.get(pk=owner.pk))
    assert owners.get("/admin/").status_code == 200
    owner.refresh_from_db()
    admins_browser.post(change_path(owner), with_groups(owner, "Member", "Auditor"))
    assert is_staff(owner), "one role of the staff is left"
    page = admins_browser.post(change_path(owner), with_groups(owner, "Member"), follow=True)
    assert "“owner” may not enter this site any more" in text_of(page)
    assert not is_staff(owner)


def test_the_role_and_what_else_was_edited_are_one_record_of_the_row(admins_browser: Client, owner: User) -> None:
    before = len(updates_of(owner))
    admins_browser.post(change_path(owner), with_groups(owner, "Auditor", full_name="New"))
    (record,) = updates_of(owner)[before:]
    assert {*record.after} >= {"is_staff", "full_name"}
    entry = LogEntry.objects.latest("pk")
    assert entry.get_change_message() == "Changed Full name, Groups and Staff."


def test_a_newcomer_with_a_role_of_the_staff_enters(admins_browser: Client) -> None:
    admins_browser.post(ADD, FORM | {"groups": [str(pk) for pk in role_ids("Support")]})
    assert User.objects.get(username="Newcomer").is_staff


def test_the_box_counts_when_it_was_changed_with_the_roles(
    admins_browser: Client, owner: User, colleague: User
) -> None:
    colleague.groups.set(role_ids("Member", "Auditor"))
    User.objects.filter(pk=colleague.pk).update(is_staff=True)
    colleague.refresh_from_db()
    unticked = with_groups(colleague, "Auditor", "Support")
    del unticked["is_staff"]
    admins_browser.post(change_path(colleague), unticked)
    assert not is_staff(colleague)
    admins_browser.post(change_path(owner), with_groups(owner, "Member", is_staff="on"))
    assert is_staff(owner)
    # By hand, so no role that does not let in takes it away.
    admins_browser.post(change_path(owner), {**with_groups(owner), "is_staff": "on"})
    assert is_staff(owner)
    # Without a change of roles the box stays as it is.
    admins_browser.post(change_path(colleague), {**unticked, "full_name": "New"})
    assert not is_staff(colleague)


def test_a_superuser_who_loses_a_role_in_the_form_stays_staff(admins_browser: Client) -> None:
    other = UserFactory.create(is_staff=True, is_superuser=True)
    other.groups.set(role_ids("Support"))
    admins_browser.post(change_path(other), with_groups(other, "Member"))
    assert is_staff(other)


def test_nobody_lets_themselves_in_by_a_role(supporter: Client) -> None:
    oneself = User.objects.get(username="supporter")
    before = rights_of(oneself)
    assert supporter.post(change_path(oneself), with_groups(oneself, "Administrator")).status_code == 302
    assert rights_of(oneself) == before


# --- actions ----------------------------------------------------------------------------------------


def test_users_are_shut_out_and_let_in_again(admins_browser: Client, owner: User, colleague: User) -> None:
    assert "2 users changed." in text_of(run_action(admins_browser, "deactivate", owner, colleague))
    assert not User.objects.filter(is_active=True, is_superuser=False).exists()
    assert "1 user changed." in text_of(run_action(admins_browser, "restore", owner))
    assert list(User.objects.filter(is_active=False)) == [colleague]


def test_nobody_shuts_out_themselves(admins_browser: Client, administrator: User, owner: User) -> None:
    assert "1 user changed." in text_of(run_action(admins_browser, "deactivate", administrator, owner))
    assert rights_of(administrator)[0] is True


def test_other_staff_neither_shut_out_nor_let_in(supporter: Client, administrator: User, owner: User) -> None:
    banned = UserFactory.create(is_active=False)
    run_action(supporter, "deactivate", administrator, owner)
    run_action(supporter, "restore", banned)
    assert list(User.objects.filter(is_active=False)) == [banned]


@pytest.mark.parametrize("who", ["admins_browser", "supporter"])
def test_links_to_choose_a_password_go_to_active_people(request: pytest.FixtureRequest, who: str, owner: User) -> None:
    browser = request.getfixturevalue(who)
    shut_out = UserFactory.create(is_active=False)
    page = text_of(run_action(browser, "send_set_password_link", owner, shut_out))
    assert "1 mail is on its way." in page
    assert f"“{shut_out.username}”: This account is shut out." in page
    assert "/accounts/password/" not in page
    assert [message.to for message in run_jobs()] == [["owner@example.com"]]


def test_who_signs_others_out_everywhere_stays_signed_in(
    admins_browser: Client, owners_browser: Client, administrator: User, owner: User
) -> None:
    page = text_of(run_action(admins_browser, "sign_out", administrator, owner))
    assert "1 session ended." in page
    assert "“keeper”: You stay signed in." in page
    assert owners_browser.get("/accounts/profile/").status_code == 302
    assert admins_browser.get(LIST).status_code == 200


# --- odd requests -----------------------------------------------------------------------------------

ODD_QUERIES = [
    "username=%00",
    "username=%ff",
    "username__regex=[",
    "username__iregex=(((",
    "username__regex=" + "(a%2B)%2B" * 50,
    "username__nonsense=1",
    "nonsense=1",
    "nonsense__exact=1",
    "password__startswith=b",
    "groups__name=x",
    "groups__id__exact=x",
    "user_permissions__codename=x",
    "created_at__year=99999999999",
    "created_at__year=0",
    "created_at__year=x",
    "created_at__gte=yesterday",
    "created_at__gte=99999-01-01",
    "created_at__day=1&created_at__month=13",
    "id__exact=nonsense",
    "id__in=nonsense",
    "login_count__gt=x",
    "is_active__exact=maybe",
    "is_active__isnull=x",
    "p=abc",
    "p=-1",
    "p=99999999999999999999",
    "o=zzz",
    "o=99999999999999999999",
    "o=-",
    "e=1",
    "all=x",
    "_popup=x",
    "_to_field=password",
    "_to_field=nonsense",
    "_facets=1",
    "_changelist_filters=%ff",
    "q=" + "x" * 5000,
    "q=%ed%a0%80",
    "q=" + "%F0%9F%98%80" * 200,
]


ODD_FOR_ACTIONS = ["username__regex=[", "username__iregex=(((", "created_at__year=99999999999", "created_at__year=0"]


@pytest.fixture
def calm_browser(transactional_db: None) -> Client:
    """A superuser's browser that shows error pages, with real transactions: what PostgreSQL refuses would else
    spoil the test's own."""
    browser = Client(raise_request_exception=False)
    browser.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    return browser


def run_nothing(browser: Client, query: str) -> Any:
    return browser.post(f"{LIST}?{query}", {"action": "restore", "_selected_action": [str(uuid.uuid4())], "index": "0"})


def test_no_query_string_is_a_server_error(calm_browser: Client) -> None:
    statuses = {}
    for query in ODD_QUERIES:
        shown = calm_browser.get(f"{LIST}?{query}", follow=True)
        assert not re.search(r"Traceback|psycopg|SELECT |DataError", text_of(shown))
        statuses[f"list {query}"] = shown.status_code
        statuses[f"add {query}"] = calm_browser.get(f"{ADD}?{query}").status_code
        if query not in ODD_FOR_ACTIONS:
            statuses[f"action {query}"] = run_nothing(calm_browser, query).status_code
    assert {query: status for query, status in statuses.items() if status >= 500} == {}


@pytest.mark.parametrize("query", ODD_FOR_ACTIONS)
def test_a_bad_filter_is_no_server_error_for_an_action_either(calm_browser: Client, query: str) -> None:
    assert run_nothing(calm_browser, query).status_code < 500


@pytest.mark.parametrize(
    "query", ["password__startswith=bcrypt", "signup_key__isnull=1", "groups__name=x", "login_count=1", "bio=x"]
)
def test_what_is_no_filter_of_the_list_cannot_be_asked_letter_by_letter(
    calm_browser: Client, owner: User, query: str
) -> None:
    response = calm_browser.get(f"{LIST}?{query}")
    assert (response.status_code, response["Location"]) == (302, LIST)


@pytest.mark.parametrize(
    "address",
    [
        "/admin/auth/group/?name__regex=[",
        "/admin/accounts/loginattempt/?account__regex=[",
        "/admin/accounts/loginattempt/?reserved_at__year=99999999999",
        "/admin/accounts/loginattempt/?locked=nonsense",
        "/admin/accounts/loginattempt/?q=%ff",
        "/admin/accounts/loginattempt/nonsense/change/",
        "/admin/django_tasks_database/dbtaskresult/?status__regex=[",
        "/admin/r/1/nonsense/",
        "/admin/r/99999999999999999999/1/",
        "/admin/autocomplete/?term=x&app_label=accounts&model_name=user&field_name=nonsense",
    ],
)
def test_no_other_address_of_the_admin_is_a_server_error(calm_browser: Client, address: str) -> None:
    assert calm_browser.get(address).status_code < 500


@pytest.mark.parametrize("selected", ["nonsense", "0", "x\0y", "1,2"])
@pytest.mark.parametrize("listing", [LIST, "/admin/auth/group/", "/admin/accounts/loginattempt/"])
def test_a_forged_selection_is_no_server_error(calm_browser: Client, owner: User, listing: str, selected: str) -> None:
    for action in ("deactivate", "delete_selected"):
        form = {"action": action, "_selected_action": selected, "select_across": "0"}
        assert calm_browser.post(listing, form).status_code < 500
    owner.refresh_from_db()
    assert owner.is_active


def test_every_list_of_the_site_counts_with_a_cap() -> None:
    assert {type(model_admin).paginator for model_admin in admin.site._registry.values()} == {CappedPaginator}


def test_an_edit_does_not_undo_what_happened_since_the_form_was_read(
    admins_browser: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = services.username_refusal

    def change_meanwhile(user: User) -> AccountError | None:
        User.objects.filter(pk=owner.pk).update(password="!changed", login_count=7)
        return look(user)

    monkeypatch.setattr(services, "username_refusal", change_meanwhile)
    form = {"username": owner.username, "email": owner.email, "full_name": "Olive", "is_active": "on"}
    assert admins_browser.post(f"{LIST}{owner.pk}/change/", form).status_code == 302
    owner.refresh_from_db()
    assert (owner.full_name, owner.password, owner.login_count) == ("Olive", "!changed", 7)


def test_a_new_address_must_be_confirmed_before_the_next_login(admins_browser: Client, owner: User) -> None:
    form = {"username": owner.username, "email": "new@example.com", "full_name": "", "is_active": "on"}
    assert admins_browser.post(f"{LIST}{owner.pk}/change/", form).status_code == 302
    owner.refresh_from_db()
    assert (owner.email, owner.email_verified_at) == ("new@example.com", None)
    change = owner.address_changes.get()
    assert jobs() == [("send_address_moved", [str(change.pk)]), ("send_mail_to_user", ["verify_email", str(owner.pk)])]


def test_no_object_id_or_form_is_a_server_error(calm_browser: Client, owner: User) -> None:
    ids = ["abc", "0", "_5F", "%00", "%ff", "-", str(uuid.uuid4()), "x" * 3000, "..", f"{owner.pk}%0a"]
    statuses = {}
    for each in ids:
        for page in ("change", "history", "delete"):
            for method in ("get", "post"):
                response = getattr(calm_browser, method)(f"{LIST}{each}/{page}/")
                statuses[f"{method} {each[:20]} {page}"] = response.status_code
    for action in ("", "nonsense", "restore", "deactivate", "send_set_password_link", "delete_selected"):
        for selected in (["nonsense"], ["\0"], [""], [str(owner.pk)] * 2000, []):
            form = {"action": action, "_selected_action": selected, "index": "x"}
            statuses[f"{action} {selected[:1]}"] = calm_browser.post(LIST, form).status_code
    for name in ("username", "email", "groups", "user_permissions", "id", "_continue", "_saveasnew"):
        for value in ("\0", "x" * 70_000, "\ud83d".encode("utf-8", "replace").decode(), "99999999999999999999"):
            statuses[f"{name}={value[:9]!r}"] = calm_browser.post(ADD, FORM | {name: value}).status_code
    assert {request: status for request, status in statuses.items() if status >= 500} == {}
