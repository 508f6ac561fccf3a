"""Invitations through their pages: opening a link, signing up with it, inviting, looking after them."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import links
from accounts.forms import addresses_in
from accounts.models import Invitation, User
from tests.accounts.conftest import codes, jobs, run_jobs, sign_in, text_of
from tests.factories import PASSWORD, InvitationFactory

pytestmark = pytest.mark.django_db

PAGE = "/accounts/invitation/"
LIST = "/accounts/invitations/"
FORM = {"username": "Newcomer", "email": "newcomer@example.com", "full_name": "", "password": PASSWORD}


def path_of(invitation: Invitation, *, mailed: bool = False) -> str:
    return links.invitation_url(invitation, mailed=mailed).removeprefix("http://localhost:8000")


def open_link(browser: Client, invitation: Invitation, *, mailed: bool = False) -> Any:
    """Follow a link as a browser does; returns the page it ends on."""
    response = browser.get(path_of(invitation, mailed=mailed))
    assert (response.status_code, response["Location"]) == (302, PAGE)
    return browser.get(PAGE)


def detail(invitation: Invitation, action: str = "") -> str:
    return f"{LIST}{invitation.pk}/{action}/" if action else f"{LIST}{invitation.pk}/"


# Opening and using


def test_the_token_leaves_the_address_at_once_and_is_on_no_page(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    page = open_link(stranger, invitation)
    assert page.status_code == 200
    assert path_of(invitation).split("/")[-2] not in text_of(page)


@pytest.mark.parametrize("signup_mode", ["open", "invite"])
def test_who_is_invited_signs_up(stranger: Client, settings: Any, signup_mode: str) -> None:
    settings.SIGNUP_MODE = signup_mode
    invitation = InvitationFactory.create()
    open_link(stranger, invitation)
    response = stranger.post(PAGE, FORM)
    assert (response.status_code, response["Location"]) == (303, "/accounts/login/")
    assert User.objects.get().username == "Newcomer"
    assert Invitation.objects.get().uses == 1


def test_in_invite_mode_nobody_signs_up_without_one(stranger: Client, settings: Any) -> None:
    settings.SIGNUP_MODE = "invite"
    assert stranger.post("/accounts/signup/", FORM).status_code == 403
    assert stranger.post(PAGE, FORM).status_code == 404
    open_link(stranger, InvitationFactory.create())
    assert stranger.post("/accounts/signup/", FORM).status_code == 403
    assert not User.objects.exists()


def test_when_sign_up_is_closed_an_invitation_opens_nothing_either(stranger: Client, settings: Any) -> None:
    settings.SIGNUP_MODE = "closed"
    assert open_link(stranger, InvitationFactory.create()).status_code == 403
    assert stranger.post(PAGE, FORM).status_code == 403
    assert not User.objects.exists()


def test_the_invited_address_comes_from_the_row_not_from_the_post(stranger: Client, inviter: User) -> None:
    invitation = InvitationFactory.create(email="ada@example.com", invited_by=inviter, note="Welcome, Ada!")
    page = open_link(stranger, invitation, mailed=True)
    for shown in ("ada@example.com", "inviter", "Welcome, Ada!"):
        assert shown in text_of(page)
    response = stranger.post(PAGE, FORM | {"email": "evil@example.com"}, follow=True)
    ada = User.objects.get(username="Newcomer")
    assert (ada.email, ada.email_verified_at is None, jobs()) == ("ada@example.com", False, [])
    assert "You can sign in now" in text_of(response)
    assert sign_in(stranger, "newcomer").status_code == 302


def test_a_link_that_was_handed_over_does_not_prove_the_address(stranger: Client) -> None:
    open_link(stranger, InvitationFactory.create(email="ada@example.com"))
    response = stranger.post(PAGE, FORM, follow=True)
    assert "open its link" in text_of(response)
    assert User.objects.get().email_verified_at is None


def test_a_domain_is_said_and_kept(stranger: Client) -> None:
    invitation = InvitationFactory.create(domain="example.org", max_uses=2)
    assert "example.org" in text_of(open_link(stranger, invitation))
    response = stranger.post(PAGE, FORM)
    assert (response.status_code, codes(response.context["form"], "email")) == (409, ["invitation_other_domain"])
    assert "addresses at example.org" in text_of(response)
    assert stranger.post(PAGE, FORM | {"email": "newcomer@example.org"}).status_code == 303
    assert Invitation.objects.get().uses == 1


def test_get_head_and_options_never_consume(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    before = Invitation.objects.values().get()
    for _time in range(1000 // 20):
        for method in ("get", "head", "options"):
            for path in (path_of(invitation), PAGE):
                assert getattr(stranger, method)(path).status_code in (200, 302, 405)
    assert Invitation.objects.values().get() == before
    assert stranger.post(PAGE, FORM).status_code == 303


def test_a_failed_form_leaves_it_as_it_was(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    open_link(stranger, invitation)
    before = Invitation.objects.values().get()
    for bad in ({"password": "short"}, {"username": "x"}, {"email": "no"}, {"username": ""}):
        assert stranger.post(PAGE, FORM | bad).status_code == 422
    assert Invitation.objects.values().get() == before
    assert stranger.post(PAGE, FORM).status_code == 303


def test_a_form_sent_twice_gets_the_first_answer(stranger: Client) -> None:
    open_link(stranger, InvitationFactory.create())
    answers = [stranger.post(PAGE, FORM) for _time in range(3)]
    assert {(answer.status_code, answer["Location"]) for answer in answers} == {(303, "/accounts/login/")}
    assert (User.objects.count(), Invitation.objects.get().uses) == (1, 1)


def test_who_is_signed_in_is_told_to_sign_out_first(owners_browser: Client) -> None:
    invitation = InvitationFactory.create()
    assert owners_browser.get(path_of(invitation)).status_code == 302
    response = owners_browser.get(PAGE, follow=True)
    assert "sign out first" in text_of(response)
    assert owners_browser.post(PAGE, FORM).status_code == 303
    assert User.objects.count() == 1


# The four answers


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({}, 200),
        ({"uses": 1}, 410),
        ({"expires_at": timezone.now()}, 410),
        ({"revoked_at": timezone.now()}, 404),
    ],
)
def test_four_honest_answers(stranger: Client, columns: dict[str, Any], status: int) -> None:
    invitation = InvitationFactory.create(**columns)
    page = open_link(stranger, invitation)
    assert page.status_code == status
    if status != 200:
        # The form of somebody who had it open meets the same answer, with everything wrong in it or nothing.
        for form in (FORM, FORM | {"password": "short"}):
            assert stranger.post(PAGE, form).status_code == status
        assert not User.objects.exists()


def body(response: Any) -> str:
    return re.sub(r'csrfmiddlewaretoken" value="\w+"', "", text_of(response))


def test_revoked_unknown_replaced_and_without_authority_look_alike(inviter: User) -> None:
    revoked = InvitationFactory.create(revoked_at=timezone.now())
    replaced = InvitationFactory.create()
    old_path = path_of(replaced)
    Invitation.objects.filter(pk=replaced.pk).update(nonce=uuid.uuid4())
    orphan = InvitationFactory.create(invited_by=inviter)
    gone = InvitationFactory.create()
    gone_path = path_of(gone)
    gone.delete()
    User.objects.filter(pk=inviter.pk).update(is_active=False)
    answers = []
    for path in (path_of(revoked), old_path, path_of(orphan), gone_path):
        browser = Client()
        browser.get(path)
        answers.append(browser.get(PAGE))
    forged = Client().get(f"{PAGE}{'A' * 44}.{'B' * 43}/")
    assert {answer.status_code for answer in [*answers, forged]} == {404}
    assert len({body(answer) for answer in [*answers, forged]}) == 1


@pytest.mark.parametrize("token", ["x", "a.b", "%F0%9F%98%80", "..", "A" * 3000])
def test_an_odd_link_is_not_valid_and_makes_no_session(stranger: Client, token: str) -> None:
    response = stranger.get(f"{PAGE}{token}/")
    assert response.status_code == 404
    assert "sessionid" not in response.cookies


def test_who_stands_before_an_expired_one_asks_for_a_new_one(stranger: Client, inviter: User) -> None:
    expired = InvitationFactory.create(
        email="ada@example.com", invited_by=inviter, expires_at=timezone.now() - timedelta(1)
    )
    assert "/accounts/invitation/ask/" in text_of(open_link(stranger, expired))
    for _time in range(2):
        assert stranger.post("/accounts/invitation/ask/").status_code == 303
    (message,) = run_jobs()
    assert (message.to, "ada@example.com" in message.body) == ([inviter.email], True)


def test_where_nobody_can_be_asked_no_button_is_shown(stranger: Client) -> None:
    page = open_link(stranger, InvitationFactory.create(expires_at=timezone.now()))
    assert "/accounts/invitation/ask/" not in text_of(page)
    assert stranger.post("/accounts/invitation/ask/").status_code == 404
    assert Client().post("/accounts/invitation/ask/").status_code == 404
    assert mail.outbox == []


def test_pages_that_know_the_token_are_not_kept_indexed_or_referred_from(
    stranger: Client, inviters_browser: Client, inviter: User
) -> None:
    invitation = InvitationFactory.create(invited_by=inviter)
    shown = inviters_browser.post(detail(invitation, "link"))
    assert path_of(invitation) in text_of(shown)
    followed = stranger.get(path_of(invitation))
    assert (followed["Referrer-Policy"], followed["X-Robots-Tag"]) == ("no-referrer", "noindex")
    for response in (followed, stranger.get(PAGE), shown):
        assert "no-store" in response["Cache-Control"]
    for page in (stranger.get(PAGE), shown):
        assert '<meta name="robots" content="noindex">' in text_of(page)


# Inviting


def test_who_may_not_invite_sees_no_page(owners_browser: Client, stranger: Client) -> None:
    assert owners_browser.get(LIST).status_code == 403
    assert owners_browser.post(LIST, {"emails": "ada@example.com"}).status_code == 403
    assert stranger.get(LIST).status_code == 302
    assert not Invitation.objects.exists()


def test_inviting_addresses(inviters_browser: Client) -> None:
    fields = {"emails": "ada@example.com\nbob@example.com, ADA@example.com", "max_uses": "1", "note": "Hello"}
    assert inviters_browser.post(LIST, fields).status_code == 303
    assert {(one.email, one.note) for one in Invitation.objects.all()} == {
        ("ADA@example.com", "Hello"),  # of two spellings the last
        ("bob@example.com", "Hello"),
    }
    assert len(run_jobs()) == 2
    assert "bob@example.com" in text_of(inviters_browser.get(LIST))


@pytest.mark.parametrize(
    ("pasted", "addresses"),
    [
        ("ada@example.com bob@example.com", ["ada@example.com", "bob@example.com"]),
        ("Ada Lovelace <ada@example.com>, <bob@example.com>", ["ada@example.com", "bob@example.com"]),
        ("ada@example.com;\r\n\r\n  bob@example.com  \t", ["ada@example.com", "bob@example.com"]),
        ("not an address", ["not an address"]),
        ("<<", ["<<"]),
        (" ,;\n", []),
    ],
)
def test_a_pasted_list_is_taken_apart(pasted: str, addresses: list[str]) -> None:
    assert addresses_in(pasted) == addresses


def test_inviting_again_says_that_the_old_terms_stand(inviters_browser: Client) -> None:
    for emails, said in (("ada@example.com", "1 invitation is on its way."), ("ada@example.com", "stay as")):
        page = inviters_browser.post(LIST, {"emails": emails, "max_uses": "1"}, follow=True)
        assert said in text_of(page)
    page = inviters_browser.post(LIST, {"emails": "ada@example.com bob@example.com", "max_uses": "1"}, follow=True)
    assert "1 invitation is on its way." in text_of(page)
    assert "still open: ada@example.com." in text_of(page)


def test_making_a_link_and_showing_it(inviters_browser: Client) -> None:
    support = str(Group.objects.get(name="Support").pk)
    fields = {"by": "link", "emails": "", "domain": "example.org", "max_uses": "3", "days": "2", "roles": [support]}
    response = inviters_browser.post(LIST, fields)
    invitation = Invitation.objects.get()
    assert (response.status_code, response["Location"]) == (303, detail(invitation))
    assert (invitation.max_uses, invitation.domain, invitation.lifetime_days) == (3, "example.org", 2)
    assert [group.name for group in invitation.roles.all()] == ["Support"]
    assert path_of(invitation) not in text_of(inviters_browser.get(detail(invitation)))
    assert path_of(invitation) in text_of(inviters_browser.post(detail(invitation, "link")))
    assert inviters_browser.get(detail(invitation, "link")).status_code == 405


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"emails": "ada@example.com nonsense"}, "emails"),
        ({"emails": "inviter@example.com"}, "emails"),
        ({"emails": " ".join(f"a{number}@example.com" for number in range(101))}, "emails"),
        ({"emails": "ada@example.com", "domain": "example.com"}, "domain"),
        ({"emails": "ada@example.com", "max_uses": "2"}, "max_uses"),
        ({"by": "link", "max_uses": "0"}, "max_uses"),
        ({"by": "link", "max_uses": "x"}, "max_uses"),
        ({"by": "link", "max_uses": "10001"}, "max_uses"),
        ({"by": "link", "days": "-1"}, "days"),
        ({"by": "link", "domain": "no domain"}, "domain"),
        ({"by": "link", "note": "x" * 501}, "note"),
        ({"by": "link", "roles": ["999999"]}, "roles"),
        ({"by": "link", "roles": ["x"]}, "roles"),
        ({"emails": ""}, "emails"),
        ({}, "emails"),
        ({"emails": " ,\n"}, "emails"),
        ({"by": "link", "emails": "ada@example.com"}, "emails"),
        ({"by": "pigeon", "emails": "ada@example.com"}, "by"),
    ],
)
def test_what_makes_no_sense_is_said_beside_its_field(
    inviters_browser: Client, fields: dict[str, Any], field: str
) -> None:
    response = inviters_browser.post(LIST, fields)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert not Invitation.objects.exists()


def test_only_roles_that_one_may_grant_are_offered_and_taken(inviters_browser: Client) -> None:
    page = inviters_browser.get(LIST)
    assert {str(group) for group in page.context["form"].fields["roles"].queryset} == {"Member", "Support"}
    above = str(Group.objects.get(name="Administrator").pk)
    response = inviters_browser.post(LIST, {"by": "link", "max_uses": "1", "roles": [above]})
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["roles"])


def test_a_quota_is_said_and_nothing_is_made(inviters_browser: Client, settings: Any) -> None:
    settings.INVITATIONS_PER_DAY = 1
    response = inviters_browser.post(LIST, {"emails": "ada@example.com bob@example.com"})
    assert (response.status_code, codes(response.context["form"], "__all__")) == (409, ["quota_of_inviter"])
    assert not Invitation.objects.exists()


def test_the_list_holds_ones_own_and_costs_the_same_for_one_and_for_many(
    inviters_browser: Client, inviter: User
) -> None:
    InvitationFactory.create(email="others@example.com")
    counts = []
    for _round in range(2):
        InvitationFactory.create_batch(3, invited_by=inviter, roles=["Support"])
        with CaptureQueriesContext(connection) as queries:
            page = inviters_browser.get(LIST)
        counts.append(len(queries))
        assert "others@example.com" not in text_of(page)
    assert counts[0] == counts[1]


# Looking after


@pytest.mark.parametrize(("action", "state"), [("resend", "open"), ("replace", "open"), ("revoke", "revoked")])
def test_each_action_is_a_post_and_does_its_work(
    inviters_browser: Client, inviter: User, action: str, state: str
) -> None:
    invitation = InvitationFactory.create(invited_by=inviter, expires_at=timezone.now() + timedelta(hours=1))
    assert inviters_browser.get(detail(invitation, action)).status_code == 405
    before = Invitation.objects.values().get()
    assert inviters_browser.post(detail(invitation, action), follow=True).status_code == 200
    assert Invitation.objects.get().state == state
    assert Invitation.objects.values().get() != before


def test_a_refused_action_says_why(inviters_browser: Client, inviter: User) -> None:
    invitation = InvitationFactory.create(invited_by=inviter, uses=1)
    response = inviters_browser.post(detail(invitation, "resend"), follow=True)
    assert "This invitation has been used." in text_of(response)


def test_others_invitations_are_not_found_and_those_above_may_not_be_sent(
    inviters_browser: Client, inviter: User, administrator: User, colleague: User
) -> None:
    above = InvitationFactory.create(invited_by=administrator, roles=["Administrator"])
    for action in ("link", "resend", "replace"):
        assert inviters_browser.post(detail(above, action)).status_code == 403
    browser = Client()
    browser.force_login(colleague)
    for path in (detail(above), detail(InvitationFactory.create(invited_by=inviter))):
        assert browser.get(path).status_code == 404
        assert browser.post(f"{path}revoke/").status_code == 404
    assert Client().get(detail(above)).status_code == 302


def test_the_page_says_when_the_inviter_lost_the_right(admins_browser: Client, inviter: User) -> None:
    invitation = InvitationFactory.create(invited_by=inviter)
    assert admins_browser.get(detail(invitation)).context["has_authority"]
    User.objects.filter(pk=inviter.pk).update(is_active=False)
    page = admins_browser.get(detail(invitation))
    assert not page.context["has_authority"]
    assert "lets nobody in" in text_of(page)


def test_a_long_address_in_the_heading_breaks_before_its_at_sign(admins_browser: Client) -> None:
    page = text_of(admins_browser.get(detail(InvitationFactory.create(email='"<b>@"@example.com'))))
    assert '<bdi class="whole">&quot;&lt;b&gt;@&quot;<wbr>@example.com</bdi>' in page


def test_the_page_shows_who_came_in(admins_browser: Client) -> None:
    invitation = InvitationFactory.create(max_uses=5)
    guest = Client()
    open_link(guest, invitation)
    guest.post(PAGE, FORM)
    assert "Newcomer" in text_of(admins_browser.get(detail(invitation)))
