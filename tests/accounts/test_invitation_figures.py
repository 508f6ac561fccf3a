"""What becomes of invitations: how an opening is known, and the page of the console about it."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import funnel, invitations, links
from accounts.models import Invitation, Opening, User
from auditlog.models import Record
from tests.accounts.conftest import text_of
from tests.factories import PASSWORD, InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db
PAGE = "/accounts/invitation/"
OPENED = f"{PAGE}opened/"
FIGURES = "/admin/accounts/invitation/figures/"
FORM = {"username": "Newcomer", "email": "newcomer@example.com", "full_name": "", "password": PASSWORD}


def path_of(invitation: Invitation) -> str:
    return links.invitation_url(invitation, mailed=False).removeprefix("http://localhost:8000")


def token_of(invitation: Invitation) -> str:
    return path_of(invitation).split("/")[-2]


def days_ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def stages(**kwargs: Any) -> funnel.Stages:
    return funnel.of_everybody(kwargs.get("since", days_ago(30))).stages


# How an opening is known


def test_looking_writes_nothing_at_all(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    before = Invitation.objects.values().get()
    stranger.get(path_of(invitation))
    with CaptureQueriesContext(connection) as asked:
        for _look in range(20):
            for method in ("get", "head", "options"):
                assert getattr(stranger, method)(PAGE).status_code in (200, 405)
                assert getattr(stranger, method)(OPENED).status_code == 405
    assert not [query for query in asked if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert Invitation.objects.values().get() == before
    assert not Opening.objects.exists()


def test_whoever_uses_the_page_has_opened_it_and_the_invitation_is_as_it_was(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    stranger.get(path_of(invitation))
    before = Invitation.objects.values().get()
    for _time in range(2):
        response = stranger.post(OPENED)
        assert (response.status_code, response.content) == (204, b"")
    assert Invitation.objects.values().get() == before
    assert Opening.objects.get().invitation_id == invitation.pk
    (event,) = Record.objects.filter(resource="accounts.invitation", action="opened")
    assert event.object_id == str(invitation.pk)


def test_without_a_script_the_form_that_was_sent_tells_it(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    stranger.get(path_of(invitation))
    assert stranger.post(PAGE, FORM | {"password": "short"}).status_code == 422
    assert (stages().opened, stages().accepted) == (1, 0)


def test_one_that_was_used_was_opened(stranger: Client) -> None:
    stranger.get(path_of(InvitationFactory.create()))
    assert stranger.post(PAGE, FORM).status_code == 303
    assert (stages().opened, stages().accepted) == (1, 1)
    assert not Opening.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [{"revoked_at": days_ago(1)}, {"expires_at": days_ago(1)}, {"uses": 1}, {"lapsed_at": days_ago(1)}],
)
def test_a_link_that_opens_nothing_is_answered_alike_and_notes_nothing(
    stranger: Client, changes: dict[str, Any]
) -> None:
    invitation = InvitationFactory.create()
    stranger.get(path_of(invitation))
    Invitation.objects.filter(pk=invitation.pk).update(**changes)
    assert stranger.post(OPENED).status_code == 204
    assert not Opening.objects.exists()


def test_a_replaced_a_forged_and_no_link_note_nothing(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    assert stranger.post(OPENED).status_code == 204
    stranger.get(path_of(invitation))
    invitations.replace(invitation.pk, acting_user=None)
    assert stranger.post(OPENED).status_code == 204
    for token in ("", "x", "\0", token_of(invitation)[:-1]):
        invitations.note_opening(token)
    assert not Opening.objects.exists()


def test_a_post_without_the_token_of_the_form_is_refused() -> None:
    stranger = Client(enforce_csrf_checks=True)
    stranger.get(path_of(InvitationFactory.create()))
    assert stranger.post(OPENED).status_code == 403
    assert not Opening.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_many_at_once_open_it_once() -> None:
    token = token_of(InvitationFactory.create())
    start = threading.Barrier(8)

    def open_it() -> None:
        start.wait()
        try:
            invitations.note_opening(token)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=open_it) for _thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Opening.objects.count() == 1
    assert Record.objects.filter(resource="accounts.invitation", action="opened").count() == 1


# The funnel


def test_each_step_of_the_funnel_holds_the_next(inviter: User) -> None:
    InvitationFactory.create(email="a@example.com", delivery="failed")
    InvitationFactory.create(email="b@example.com", delivery="queued")
    InvitationFactory.create(email="c@example.com", delivery="delivered")
    opened = InvitationFactory.create(email="d@example.com", delivery="failed")  # its link was shown to the inviter
    Opening.objects.create(invitation=opened)
    InvitationFactory.create(uses=4, max_uses=5, revoked_at=days_ago(0))
    found = stages()
    assert (found.made, found.sent, found.opened, found.accepted, found.people) == (5, 3, 2, 1, 4)
    assert (found.waiting, found.expired, found.revoked) == (4, 0, 0)
    assert found.acceptance == 0.2
    assert stages(since=timezone.now()) == funnel.Stages()


def test_very_many_are_not_counted_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(funnel, "_MADE", funnel._MADE.replace(f"LIMIT {funnel.MOST}", "LIMIT 3"))
    monkeypatch.setattr(funnel, "MOST", 3)
    for days in (1, 2, 3, 4):
        InvitationFactory.create(created_at=days_ago(days), uses=int(days == 4))
    found = funnel.of_everybody(days_ago(30))
    assert (found.stages.made, found.stages.accepted, found.is_capped) == (3, 0, True)
    assert not funnel.of_everybody(days_ago(2.5)).is_capped


# The page


def figures(browser: Client, **query: str) -> Any:
    response = browser.get(FIGURES, query)
    assert response.status_code == 200
    return response.context


def test_who_invites_most_comes_first_and_whoever_is_gone_keeps_the_name(
    admins_browser: Client, inviter: User, colleague: User
) -> None:
    for uses in (1, 0, 0):
        InvitationFactory.create(invited_by=inviter, uses=uses)
    InvitationFactory.create(invited_by=colleague, uses=1)
    InvitationFactory.create(invited_by_name="ada (command)")
    InvitationFactory.create(invited_by=None, invited_by_name="somebody gone", from_command=False)
    InvitationFactory.create(invited_by=colleague, created_at=days_ago(31))
    rows = [(one.name, one.stages.made, one.stages.acceptance) for one in figures(admins_browser)["inviters"]]
    assert rows[0] == ("inviter", 3, 1 / 3)
    assert sorted(rows[1:]) == [("ada (command)", 1, 0.0), ("colleague", 1, 1.0), ("somebody gone", 1, 0.0)]
    page = text_of(admins_browser.get(FIGURES))
    assert f"/admin/accounts/user/{inviter.pk}/change/" in page
    assert "33 %" in page


def test_an_inviter_is_found_by_the_beginning_of_the_name(
    admins_browser: Client, inviter: User, colleague: User
) -> None:
    for person in (inviter, colleague):
        InvitationFactory.create(invited_by=person)
    assert [one.name for one in figures(admins_browser, name="COLL")["inviters"]] == ["colleague"]
    for odd in ("nobody", "%", "_", "\u202e", "x" * 10_000, "' OR 1=1 --"):
        assert figures(admins_browser, name=odd)["inviters"] == []


def test_the_time_is_in_the_address_and_nonsense_is_a_month(admins_browser: Client) -> None:
    for days in (3, 20, 80, 300):
        InvitationFactory.create(created_at=days_ago(days))
    for asked, made in (("7", 1), ("30", 2), ("90", 3), ("365", 4)):
        found = figures(admins_browser, days=asked)
        assert (found["days"], found["funnel"].stages.made) == (int(asked), made)
    for odd in ("", "0", "-7", "7.0", "1e3", "９", "٣٠", "nan", "9" * 1000, "7' OR"):
        assert figures(admins_browser, days=odd)["days"] == 30


def test_the_plot_has_a_table_behind_it(admins_browser: Client) -> None:
    for uses in (1, 0, 0, 0):
        InvitationFactory.create(uses=uses)
    page = text_of(admins_browser.get(FIGURES))
    assert '<rect class="funnel-made" x="0" width="1000"' in page
    assert '<rect class="funnel-accepted" x="375" width="250"' in page
    assert '<th scope="row">Accepted</th><td>1</td><td>25 %</td>' in page
    assert "style=" not in page.partition('id="content-main"')[2]


def test_without_invitations_the_page_says_so(admins_browser: Client) -> None:
    page = text_of(admins_browser.get(FIGURES))
    assert "Nobody was invited in this time." in page
    assert '<svg class="funnel-bar"' not in page


@pytest.mark.parametrize(
    ("role", "status"), [("Administrator", 200), ("Support", 200), ("Auditor", 200), ("Member", 302), (None, 403)]
)
def test_who_may_see_invitations_may_see_their_figures(role: str | None, status: int) -> None:
    user = UserFactory.create(is_staff=role != "Member")
    user.groups.set(Group.objects.filter(name=role))
    browser = Client()
    browser.force_login(user)
    assert browser.get(FIGURES).status_code == status
    listed = browser.get("/admin/accounts/invitation/")
    assert (FIGURES in text_of(listed)) is (status == 200)


def test_many_inviters_cost_as_many_queries_as_one(admins_browser: Client) -> None:
    counts = []
    for people in (1, 1, 5):  # the first fills caches
        for _person in range(people):
            InvitationFactory.create(invited_by=UserFactory.create())
        with CaptureQueriesContext(connection) as asked:
            figures(admins_browser)
        counts.append(len(asked))
    assert counts[1] == counts[2]
