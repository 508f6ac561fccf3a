"""Invitations in the admin console."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import links
from accounts.models import Invitation, Redemption, User
from tests.accounts.conftest import codes, jobs, text_of
from tests.factories import InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/invitation/"
ADD = f"{LIST}add/"
FORM = {"by": "link", "emails": "", "domain": "", "max_uses": "1", "days": "14", "note": ""}


def listed(browser: Client, query: str = "") -> list[Invitation]:
    response = browser.get(LIST + query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def run_action(browser: Client, action: str, *chosen: Invitation) -> str:
    fields = {"action": action, "_selected_action": [str(one.pk) for one in chosen], "index": "0"}
    return text_of(browser.post(LIST, fields, follow=True))


def test_many_who_came_in_cost_as_many_queries_as_one(admins_browser: Client) -> None:
    counts = []
    for people in (1, 2, 6):  # the first fills caches
        invitation = InvitationFactory.create(max_uses=9)
        for _person in range(people):
            newcomer = UserFactory.create()
            Redemption.objects.create(invitation=invitation, user=newcomer, username=newcomer.username)
        with CaptureQueriesContext(connection) as seen:
            page = text_of(admins_browser.get(f"{LIST}{invitation.pk}/change/"))
        assert newcomer.username in page
        counts.append(len(seen))
    assert counts[1] == counts[2]


def test_inviting_addresses_from_the_admin(inviters_browser: Client, inviter: User) -> None:
    member = str(Group.objects.get(name="Member").pk)
    form = FORM | {"by": "mail", "emails": "ada@example.com\nbob@example.com", "roles": [member]}
    page = text_of(inviters_browser.post(ADD, form, follow=True))
    assert "2 invitations are on their way." in page
    assert {(one.email, one.invited_by) for one in Invitation.objects.all()} == {
        ("ada@example.com", inviter),
        ("bob@example.com", inviter),
    }
    assert {tuple(one.roles.values_list("name", flat=True)) for one in Invitation.objects.all()} == {("Member",)}
    assert len(jobs()) == 2


def test_making_a_link_from_the_admin_never_shows_it_there(inviters_browser: Client) -> None:
    page = text_of(inviters_browser.post(ADD, FORM | {"max_uses": "5", "_continue": "1"}, follow=True))
    invitation = Invitation.objects.get()
    assert invitation.max_uses == 5
    assert f"/accounts/invitations/{invitation.pk}/" in page
    for shown in (
        page,
        text_of(inviters_browser.get(LIST)),
        text_of(inviters_browser.get(f"{LIST}{invitation.pk}/history/")),
    ):
        for mailed in (True, False):
            assert links.invitation_url(invitation, mailed=mailed).split("/")[-2] not in shown


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"by": "mail"}, "emails"),
        ({"by": "mail", "emails": "nonsense"}, "emails"),
        ({"by": "mail", "emails": "inviter@example.com"}, "emails"),
        ({"domain": "no domain"}, "domain"),
        ({"max_uses": "0"}, "max_uses"),
        ({"days": "9999"}, "days"),
    ],
)
def test_what_makes_no_sense_is_said_beside_its_field(
    inviters_browser: Client, wrong: dict[str, str], field: str
) -> None:
    response = inviters_browser.post(ADD, FORM | wrong)
    assert response.status_code == 200
    assert codes(response.context["adminform"].form, field) != []
    assert not Invitation.objects.exists()


def test_nobody_invites_above_their_own_role(inviters_browser: Client) -> None:
    above = str(Group.objects.get(name="Administrator").pk)
    response = inviters_browser.post(ADD, FORM | {"roles": [above]})
    assert codes(response.context["adminform"].form, "roles") == ["invalid_choice"]


def test_a_quota_met_after_the_form_is_said(inviters_browser: Client, settings: Any) -> None:
    settings.INVITATIONS_PER_DAY = 0
    assert "You may make 0 more invitations at the moment, not 1" in text_of(
        inviters_browser.post(ADD, FORM, follow=True)
    )
    assert not Invitation.objects.exists()


def test_the_page_of_one_can_only_be_looked_at(admins_browser: Client) -> None:
    invitation = InvitationFactory.create(email="ada@example.com", note="Hello", roles=["Support"])
    before = Invitation.objects.values().get()
    page = text_of(admins_browser.get(f"{LIST}{invitation.pk}/change/"))
    for shown in ("ada@example.com", "Hello", "Support", "0 of 1", f"/accounts/invitations/{invitation.pk}/"):
        assert shown in page
    assert admins_browser.post(f"{LIST}{invitation.pk}/change/", FORM | {"uses": "0"}).status_code == 403
    assert admins_browser.post(f"{LIST}{invitation.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Invitation.objects.values().get() == before


@pytest.mark.parametrize("state", ["open", "used", "expired", "revoked"])
def test_the_list_narrows_to_a_state(admins_browser: Client, state: str) -> None:
    made = {
        "open": InvitationFactory.create(),
        "used": InvitationFactory.create(uses=1),
        "expired": InvitationFactory.create(expires_at=timezone.now()),
        "revoked": InvitationFactory.create(revoked_at=timezone.now()),
    }
    assert listed(admins_browser, f"?state={state}") == [made[state]]


def test_the_list_is_searched_by_the_beginning_of_the_address_or_by_id(admins_browser: Client) -> None:
    ada = InvitationFactory.create(email="Ada@example.com")
    link = InvitationFactory.create()
    assert listed(admins_browser, "?q=ada@") == [ada]
    assert listed(admins_browser, f"?q={link.pk}") == [link]
    assert listed(admins_browser, "?q=example") == []


def test_a_longer_list_costs_no_more_queries(admins_browser: Client) -> None:

    counts = []
    for _round in range(2):
        InvitationFactory.create_batch(3, roles=["Support"])
        with CaptureQueriesContext(connection) as queries:
            listed(admins_browser)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_actions_on_many_say_what_was_refused(admins_browser: Client) -> None:
    open_one = InvitationFactory.create(email="ada@example.com")
    used = InvitationFactory.create(uses=1, email="bob@example.com")
    page = run_action(admins_browser, "resend", open_one, used)
    assert "“bob@example.com”: This invitation has been used." in page
    assert "1 invitation changed." in page
    run_action(admins_browser, "revoke", open_one)
    assert Invitation.objects.get(pk=open_one.pk).state == "revoked"


def test_support_cannot_send_what_it_could_not_grant(inviters_browser: Client, administrator: User) -> None:
    above = InvitationFactory.create(invited_by=administrator, roles=["Administrator"], email="ada@example.com")
    assert "“ada@example.com”: you may not hand out its roles." in run_action(inviters_browser, "resend", above)
    assert jobs() == []


def test_an_auditor_looks_and_changes_nothing(owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    owner.groups.set(Group.objects.filter(name="Auditor"))
    browser = Client()
    browser.force_login(owner)
    invitation = InvitationFactory.create(expires_at=timezone.now() + timedelta(days=1))
    assert listed(browser) == [invitation]
    assert browser.get(ADD).status_code == 403
    assert browser.post(ADD, FORM).status_code == 403
    run_action(browser, "revoke", invitation)
    assert Invitation.objects.get().state == "open"
    assert browser.post(f"/accounts/invitations/{invitation.pk}/revoke/").status_code == 403
