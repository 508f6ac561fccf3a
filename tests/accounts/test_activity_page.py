"""/accounts/activity/: one's own part of the audit trail, in plain sentences."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group
from django.test import Client, RequestFactory
from django.utils.html import escape, strip_tags

from accounts import services
from accounts.models import User
from auditlog import acting_as
from auditlog.context import Context, in_context
from auditlog.models import Record
from auditlog.reading import PAGE
from tests.accounts.phones import OVERVIEW, give_phone
from tests.factories import PASSWORD, InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db
ACTIVITY = "/accounts/activity/"


def lines(browser: Client, **asked: str) -> list[str]:
    """The entries as a reader hears them."""
    page = browser.get(ACTIVITY, asked).content.decode()
    found = re.search(r'<ol class="activity">.*</ol>', page, re.DOTALL)
    entries = re.split(r"<h2>", found[0])[1:] if found else []
    return [" ".join(strip_tags(f"<h2>{entry}".replace("</li>", " ")).split()) for entry in entries]


def test_a_change_is_told_in_a_sentence_with_address_and_browser(owners_browser: Client, owner: User) -> None:
    form = {"full_name": "Olivia O.", "bio": "Hello", "version": owner.version}
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0 <b>"
    owners_browser.post("/accounts/profile/", form, REMOTE_ADDR="192.0.2.9", HTTP_USER_AGENT=agent)
    newest = lines(owners_browser)[0]
    assert newest.startswith(
        "Your account was changed Full name changed from “Olivia Owner” to “Olivia O.” About you: “Hello” added"
    )
    assert newest.endswith("UTC from 192.0.2.9 Firefox on Linux")
    assert f'<span title="{escape(agent)}">Firefox on Linux</span>' in owners_browser.get(ACTIVITY).content.decode()


def test_signing_in_and_out_and_a_new_password_are_there(stranger: Client, owner: User) -> None:
    stranger.post("/accounts/login/", {"username": "owner", "password": PASSWORD})
    services.change_password(owner, "Another-Horse-8-Battery")
    stranger.force_login(User.objects.get(pk=owner.pk), "accounts.backends.IdentityBackend")
    stranger.post("/accounts/logout/")
    stranger.force_login(User.objects.get(pk=owner.pk), "accounts.backends.IdentityBackend")
    titles = [line.partition(" 20")[0] for line in lines(stranger)]
    assert titles == [
        "Signed in",
        "Signed out",
        "Signed in",
        "Signed out a device",
        "Your account was changed Password changed",
        "Signed in",
        "Account created",
    ]


def test_a_wrong_password_or_code_of_who_is_signed_in_is_no_failed_sign_in(
    stranger: Client, owners_browser: Client, owner: User
) -> None:
    phone = give_phone(owner)
    stranger.post("/accounts/login/", {"username": "owner", "password": "Wrong-Password-1"})
    owners_browser.post("/accounts/confirm/", {"password": "Wrong-Password-1"})
    owners_browser.post(f"{OVERVIEW}{phone.app.pk}/remove/", {"code": phone.wrong_code()})
    titles = [line.partition(" 20")[0] for line in lines(owners_browser)[:3]]
    assert titles == ["Wrong second factor", "Wrong password when asked again", "Failed to sign in"]


def test_what_staff_did_is_told_without_their_name_or_place(owners_browser: Client, owner: User) -> None:
    keeper = UserFactory.create(username="secret-keeper", is_staff=True, is_superuser=True)
    request = RequestFactory(REMOTE_ADDR="198.51.100.77", HTTP_USER_AGENT="Staffari").get("/")
    request.user = keeper
    with in_context(Context(request=request, reason="internal")):
        owner.full_name = "Changed"
        owner.save()
        owner.groups.add(Group.objects.get(name="Support"))
    page = owners_browser.get(ACTIVITY).content.decode()
    added, changed = lines(owners_browser)[:2]
    assert "Groups: “Support” added" in added
    assert "by a member of staff" in changed
    for hidden in ("secret-keeper", "198.51.100.77", "Staffari", "internal"):
        assert hidden not in page


def test_what_one_did_to_others_is_there_and_what_others_did_elsewhere_is_not(
    owners_browser: Client, owner: User, colleague: User
) -> None:
    with acting_as(owner):
        InvitationFactory.create(email="ada@example.com", invited_by=owner)
        colleague.full_name = "Somebody’s Secret"
        colleague.save()
    with acting_as(colleague):
        InvitationFactory.create(email="grace@example.com", invited_by=colleague)
    page = owners_browser.get(ACTIVITY).content.decode()
    assert "Created: invitation “ada@example.com”" in str(lines(owners_browser))
    assert "Changed: user “colleague” Full name" in str(lines(owners_browser))
    for hidden in ("grace", "Secret"):
        assert hidden not in page


def test_an_account_knows_nothing_of_another_with_the_same_question(owners_browser: Client, colleague: User) -> None:
    before = lines(owners_browser)
    assert lines(owners_browser, user=str(colleague.pk), actor=str(colleague.pk), q="colleague") == before
    theirs = Record.objects.filter(object_id=str(colleague.pk)).order_by("-id")[0]
    assert "colleague" not in str(lines(owners_browser, newer=f"{theirs.pk - 1}-{int(theirs.at.timestamp() * 1e6)}"))


def test_looking_at_ones_own_activity_is_not_recorded(owners_browser: Client) -> None:
    before = Record.objects.count()
    lines(owners_browser)
    assert Record.objects.count() == before


def test_what_staff_only_read_is_not_there(admins_browser: Client) -> None:
    admins_browser.get("/admin/auditlog/record/")
    assert "trail" not in str(lines(admins_browser))


def test_long_lists_have_pages_that_lead_to_the_end(owners_browser: Client, owner: User) -> None:
    for number in range(PAGE + 5):
        User.objects.filter(pk=owner.pk).update(full_name=str(number))
    first = owners_browser.get(ACTIVITY)
    assert len(first.context["entries"]) == PAGE
    older = re.search(r'href="(\?older=[^"]+)"', first.content.decode())
    assert older is not None
    rest = owners_browser.get(ACTIVITY + older[1])
    assert rest.context["entries"][-1].title == "Account created"
    last = owners_browser.get(ACTIVITY, {"oldest": "1"})
    assert [entry.title for entry in last.context["entries"]][-2:] == ["Signed in", "Account created"]


def test_a_stranger_is_asked_to_sign_in(stranger: Client) -> None:
    assert stranger.get(ACTIVITY)["Location"] == f"/accounts/login/?next={ACTIVITY}"


def test_it_is_linked_from_the_profile(owners_browser: Client) -> None:
    assert f'href="{ACTIVITY}"' in owners_browser.get("/accounts/profile/").content.decode()
