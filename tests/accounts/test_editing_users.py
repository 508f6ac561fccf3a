"""Two people who edit one user, or one object of another app, in the admin at the same time."""

from __future__ import annotations

import html
import re
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connections
from django.test import Client
from django.utils.datastructures import MultiValueDict

from accounts.models import User
from tests.accounts.conftest import codes, jobs, sign_in, text_of
from tests.factories import UserFactory
from tests.hostapp.models import Comment, Note, Tag
from tests.live import at_once

pytestmark = pytest.mark.django_db


def page_of(user: User) -> str:
    return f"/admin/accounts/user/{user.pk}/change/"


def fields_of(response: Any) -> MultiValueDict[str, str]:
    """What a browser would send back, as the page has it, without its buttons."""
    page = response.content.decode()
    form = page[page.index("<form", page.index('id="content-main"')) :]
    found: MultiValueDict[str, str] = MultiValueDict()
    for tag in re.findall(r"<input [^>]+>", form):
        about = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        ticked = about.get("type") not in ("checkbox", "radio") or " checked" in tag
        if about.get("type") != "submit" and "name" in about and ticked:
            default = "on" if about.get("type") == "checkbox" else ""
            found.appendlist(about["name"], html.unescape(about.get("value", default)))
    for name, content in re.findall(r'<textarea name="([^"]+)"[^>]*>\n?([^<]*)</textarea>', form):
        found.appendlist(name, html.unescape(content))
    for name, content in re.findall(r'<select name="([^"]+)".*?>(.*?)</select>', form, re.S):
        found.setlist(name, re.findall(r'value="([^"]+)" selected', content))
    return found


def open_form(browser: Client, path: str) -> MultiValueDict[str, str]:
    return fields_of(browser.get(path))


def send(browser: Client, path: str, form: MultiValueDict[str, str], **changes: Any) -> Any:
    sent = {name: values for name, values in form.lists() if values}
    return browser.post(path, {**sent, **changes})


def conflict(response: Any) -> list[tuple[str, str, str | None, str]]:
    assert response.status_code == 409
    return [(one.label, one.theirs, one.yours, one.by) for one in response.context["conflict"]]


@pytest.fixture
def other_keeper(db: None) -> Client:
    browser = Client()
    browser.force_login(UserFactory.create(username="warden", is_staff=True, is_superuser=True))
    return browser


def test_the_second_is_told_what_changed_and_by_whom_and_loses_nothing(
    admins_browser: Client, other_keeper: Client, owner: User
) -> None:
    path = page_of(owner)
    mine, theirs = open_form(admins_browser, path), open_form(other_keeper, path)
    assert send(other_keeper, path, theirs, full_name="Theirs", bio="Their bio").status_code == 302
    answer = send(admins_browser, path, mine, full_name="Mine", avatar_url="https://example.com/mine.png")
    assert conflict(answer) == [
        ("Full name", "Theirs", "Mine", "warden"),
        ("About you", "Their bio", None, "warden"),
    ]
    assert "Changed by somebody else since you opened this" in text_of(answer)
    assert codes(answer.context["adminform"].form, "__all__") == ["stale"]
    assert User.objects.get(pk=owner.pk).full_name == "Theirs"
    # The page has what was typed, and theirs where this person had left the field alone.
    again = fields_of(answer)
    assert (again["full_name"], again["avatar_url"], again["bio"]) == (
        "Mine",
        "https://example.com/mine.png",
        "Their bio",
    )
    # Saved again, it is meant.
    assert send(admins_browser, path, again).status_code == 302
    saved = User.objects.get(pk=owner.pk)
    assert (saved.full_name, saved.bio, saved.avatar_url) == ("Mine", "Their bio", "https://example.com/mine.png")


def test_roles_that_somebody_else_gave_are_not_taken_away_unseen(
    admins_browser: Client, other_keeper: Client, owner: User
) -> None:
    path, support = page_of(owner), Group.objects.get(name="Support")
    mine, theirs = open_form(admins_browser, path), open_form(other_keeper, path)
    assert send(other_keeper, path, theirs, groups=[str(support.pk)], is_staff="on").status_code == 302
    answer = send(admins_browser, path, mine, full_name="Mine")
    assert conflict(answer) == [("Staff", "yes", None, "warden"), ("Groups", "Support", None, "warden")]
    assert send(admins_browser, path, fields_of(answer)).status_code == 302
    saved = User.objects.get(pk=owner.pk)
    assert (saved.full_name, saved.is_staff, list(saved.groups.all())) == ("Mine", True, [support])


def test_staff_settled_by_roles_that_somebody_else_gave_is_no_word_of_ones_own(
    admins_browser: Client, other_keeper: Client, owner: User
) -> None:
    path, support = page_of(owner), Group.objects.get(name="Support")
    mine, theirs = open_form(admins_browser, path), open_form(other_keeper, path)
    assert send(other_keeper, path, theirs, groups=[str(support.pk)]).status_code == 302
    member = Group.objects.get(name="Member")
    answer = send(admins_browser, path, mine, groups=[str(member.pk)])
    assert conflict(answer) == [("Staff", "yes", None, "warden"), ("Groups", "Support", "Member", "warden")]
    assert User.objects.get(pk=owner.pk).is_staff
    # Saved again, the role is taken, and the console with it.
    assert send(admins_browser, path, fields_of(answer)).status_code == 302
    saved = User.objects.get(pk=owner.pk)
    assert (saved.is_staff, list(saved.groups.all())) == (False, [member])


def test_a_third_edit_is_told_again(admins_browser: Client, other_keeper: Client, owner: User) -> None:
    path = page_of(owner)
    mine = open_form(admins_browser, path)
    User.objects.filter(pk=owner.pk).update(full_name="Second")
    answer = send(admins_browser, path, mine, full_name="Mine")
    User.objects.filter(pk=owner.pk).update(full_name="Third")
    assert [theirs for _label, theirs, _yours, _by in conflict(send(admins_browser, path, fields_of(answer)))] == [
        "Third"
    ]


def test_a_login_a_new_password_and_what_the_form_does_not_show_are_no_conflict(
    admins_browser: Client, owner: User
) -> None:
    path = page_of(owner)
    mine = open_form(admins_browser, path)
    sign_in(Client(), "owner")
    User.objects.filter(pk=owner.pk).update(password="!", login_count=9)
    assert send(admins_browser, path, mine, full_name="Mine").status_code == 302


def test_both_may_make_the_same_edit(admins_browser: Client, owner: User) -> None:
    path = page_of(owner)
    mine = open_form(admins_browser, path)
    assert send(admins_browser, path, mine, full_name="Same").status_code == 302
    answer = send(admins_browser, path, mine, full_name="Same")  # a double click
    assert conflict(answer) == [("Full name", "Same", "Same", "keeper")]


def test_what_is_wrong_is_said_together_with_what_changed(admins_browser: Client, owner: User) -> None:
    path = page_of(owner)
    mine = open_form(admins_browser, path)
    User.objects.filter(pk=owner.pk).update(bio="Theirs")
    answer = send(admins_browser, path, mine, username="a b", full_name="Mine")
    assert conflict(answer)[0][1:3] == ("Theirs", None)
    assert codes(answer.context["adminform"].form, "username") == ["username_characters"]
    assert fields_of(answer)["username"] == "a b"
    assert jobs() == []


@pytest.mark.parametrize("damaged", ["x", "{}", "[]", '{"fields": 1}', "9" * 20_001, "\0", "[" * 20_000])
def test_a_damaged_version_saves_nothing(admins_browser: Client, owner: User, damaged: str) -> None:
    path = page_of(owner)
    answer = send(admins_browser, path, open_form(admins_browser, path), full_name="Mine", row_version=damaged)
    assert answer.status_code == 200
    assert User.objects.get(pk=owner.pk).full_name == "Olivia Owner"


def test_the_change_message_does_not_speak_of_the_version(admins_browser: Client, owner: User) -> None:
    path = page_of(owner)
    mine = open_form(admins_browser, path)
    User.objects.filter(pk=owner.pk).update(login_count=3, email_verified_at=None)
    page = text_of(admins_browser.get(path))
    assert page.count('name="row_version"') == 1
    assert send(admins_browser, path, mine, full_name="Mine", _continue="1").status_code == 302
    entry = LogEntry.objects.latest("pk")
    assert entry.get_change_message() == "Changed Full name."


@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_in_the_same_moment_one_is_told() -> None:
    owner = UserFactory.create(username="owner")
    forms = []
    for number in range(2):
        browser = Client()
        browser.force_login(UserFactory.create(username=f"keeper{number}", is_staff=True, is_superuser=True))
        forms.append((browser, open_form(browser, page_of(owner)), f"Name {number}"))

    def save(browser: Client, form: MultiValueDict[str, str], name: str) -> int:
        try:
            return int(send(browser, page_of(owner), form, full_name=name).status_code)
        finally:
            connections.close_all()

    told = at_once([partial(save, *one) for one in forms])
    assert sorted(told) == [302, 409]
    assert User.objects.get(pk=owner.pk).full_name == f"Name {told.index(302)}"


# --- another app's objects, with inlines ------------------------------------------------------------


@pytest.fixture
def hosts_browser(settings: Any, administrator: User) -> Client:
    settings.ROOT_URLCONF = "tests.hostapp.urls"
    browser = Client()
    browser.force_login(administrator)
    return browser


def test_any_app_joins_with_tags_and_inlines(hosts_browser: Client) -> None:
    note = Note.objects.create(title="plan")
    comment, tag = Comment.objects.create(note=note, text="old"), Tag.objects.create(name="red")
    path = f"/host/admin/hostapp/note/{note.pk}/change/"
    mine = open_form(hosts_browser, path)
    assert send(hosts_browser, path, mine, title="mine, undisturbed").status_code == 302
    mine = open_form(hosts_browser, path)
    note.refresh_from_db()
    note.tags.add(tag)
    Comment.objects.filter(pk=comment.pk).update(text="theirs", urgent=True, at="2026-01-02T03:04:05Z")
    answer = send(hosts_browser, path, mine, title="mine")
    assert [told[:3] for told in conflict(answer)] == [
        ("Tags", "red", None),
        ("Text", "theirs", None),
        ("Urgent", "yes", None),
        ("At", "2026-01-02 03:04:05 UTC", None),
    ]
    assert Comment.objects.get().text == "theirs"
    assert send(hosts_browser, path, fields_of(answer)).status_code == 302
    saved = Note.objects.get()
    assert (saved.title, list(saved.tags.all()), saved.version) == ("mine", [tag], 3)
    assert (Comment.objects.get().text, Comment.objects.get().urgent) == ("theirs", True)


def test_adding_needs_no_version(hosts_browser: Client) -> None:
    path = "/host/admin/hostapp/note/add/"
    form = open_form(hosts_browser, path)
    assert send(hosts_browser, path, form, title="new", **{"comments-0-text": "first"}).status_code == 302
    assert Note.objects.get().comments.get().text == "first"
