"""The pages of invitations, as sound as the others: for who is invited, and for who invites."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as project_settings
from django.contrib.auth.models import Group
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts import invitations, links
from accounts.models import Invitation, Opening, Redemption, User
from tests.browser.conftest import Arrive, Visitor, invite, make_link
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import inspect, look
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
NOTE = "Welcome to the team! Sign in before Monday, then we show you round. <b>Tea</b> is on us."


def change(invitation: Invitation, **columns: Any) -> Invitation:
    """Write these columns and return the row with its new state."""
    Invitation.objects.filter(pk=invitation.pk).update(**columns)
    return Invitation.objects.get(pk=invitation.pk)


def path_of(invitation: Invitation) -> str:
    return links.invitation_url(invitation, mailed=True).removeprefix(project_settings.BASE_URL)


def one_of_each_kind(inviter: User) -> dict[str, Invitation]:
    """Invitations in every state, by the name that their page has in screenshots."""
    (longest,) = invite([f"{'long' * 15}@{'sub' * 15}.{'domain' * 10}.example.com"], "note" * 125, acting_user=inviter)
    staff = list(Group.objects.filter(name__in=["Support", "Auditor"]))
    addresses = [f"{name}@example.com" for name in ("open", "failed", "expired", "revoked", "lapsed", "powerless")]
    made = {
        invitation.email.partition("@")[0]: invitation for invitation in invite(addresses, NOTE, acting_user=inviter)
    }
    made["link"] = make_link(acting_user=inviter, domain="example.org", max_uses=20, roles=staff)
    made["used"] = make_link(acting_user=inviter)
    made["longest"] = longest
    ago = timezone.now() - timedelta(days=1)
    demoted = UserFactory.create(username="demoted")
    changes: dict[str, dict[str, Any]] = {
        "failed": {"delivery": Invitation.Delivery.FAILED},
        "expired": {"expires_at": ago, "asked_at": timezone.now()},
        "revoked": {"revoked_at": ago},
        "lapsed": {"lapsed_at": ago, "expires_at": ago},
        "powerless": {"invited_by": demoted, "invited_by_name": "demoted"},
        "link": {"uses": 2},
        "used": {"uses": 1},
    }
    for name, columns in changes.items():
        made[name] = change(made[name], **columns)
    for username in ("grace.hopper", "a-" * 31 + "a"):
        user = UserFactory.create(username=username, email=f"{username[:9]}@example.org")
        Redemption.objects.create(invitation=made["link"], user=user, username=username)
    return made


def test_pages_of_who_invites_are_sound(arrive: Arrive, settings: Settings) -> None:
    settings.INVITATIONS_PER_DAY = 100
    inviter = UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    visitor = arrive()
    sign_in(visitor, "gatekeeper")
    faults = inspect(visitor, "home-inviter", "/")
    faults += inspect(visitor, "invitations-empty", "/accounts/invitations/")
    made = one_of_each_kind(inviter)
    faults += inspect(visitor, "invitations", "/accounts/invitations/")
    for name, invitation in made.items():
        faults += inspect(visitor, f"invitation-{name}", f"/accounts/invitations/{invitation.pk}/")
    page = f"/accounts/invitations/{made['link'].pk}/"
    faults += inspect(visitor, "invitation-link-shown", page, press="Show the link")
    assert visitor.page.input_value("#link") == links.invitation_url(made["link"], mailed=False)
    for _link in range(60):
        make_link(acting_user=inviter)
    faults += inspect(visitor, "invitations-paged", "/accounts/invitations/?page=2")
    assert faults == []


def test_a_refused_invitation_form_is_sound_and_leads_to_its_faults(arrive: Arrive) -> None:
    UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    visitor = arrive()
    sign_in(visitor, "gatekeeper")
    visitor.go("/accounts/invitations/")
    visitor.fill(emails="nonsense\nada@example.com", domain="example.org")
    visitor.page.eval_on_selector("[name=roles]", "box => { box.value = '0'; box.checked = true; }")
    visitor.submit()
    targets = visitor.page.eval_on_selector_all("[role=alert] a", "all => all.map(a => a.getAttribute('href'))")
    assert targets == ["#id_emails", "#id_roles"]
    assert all(visitor.page.locator(target).count() == 1 for target in targets)
    assert look(visitor, "page-invitations-refused") == []


def test_pages_of_who_is_invited_are_sound(arrive: Arrive) -> None:
    made = one_of_each_kind(UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True))
    (made["from-command"],) = invite(["command@example.com"], NOTE, acting_user=None)
    made["expired-from-command"] = change(
        invite(["late@example.com"], NOTE, acting_user=None)[0], expires_at=timezone.now()
    )
    faults = []
    for name, invitation in made.items():
        faults += inspect(arrive(), f"invited-{name}", path_of(invitation))
    assert faults == []


def test_the_consoles_figures_of_invitations_are_sound(arrive: Arrive) -> None:
    inviter = UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    visitor = arrive()
    sign_in(visitor, "gatekeeper")
    faults = _of_console(visitor, "figures-empty", "/admin/accounts/invitation/figures/")
    made = one_of_each_kind(inviter)
    invitations.note_opening(path_of(made["open"]).rstrip("/").split("/")[-1])
    faults += _of_console(visitor, "figures", "/admin/accounts/invitation/figures/?days=7")
    assert visitor.page.locator(".funnel-bar").count() == 7
    visitor.go("/admin/accounts/invitation/")
    visitor.page.click("text=Invitation figures")
    assert visitor.page.url.endswith("/admin/accounts/invitation/figures/")
    assert faults == []


def _of_console(visitor: Visitor, name: str, path: str) -> list[str]:
    """As `inspect`, with the table behind the plot open; what Django's own pages weigh is not ours."""
    visitor.go(path)
    if (behind := visitor.page.locator(".funnel-behind summary")).count():
        behind.click()
    return look(visitor, f"page-{name}")


def test_an_invitation_is_opened_by_whoever_presses_a_key_and_not_by_its_page(arrive: Arrive) -> None:
    invitation = make_link(acting_user=None)
    scanner = arrive()  # runs scripts, and leaves
    scanner.go(path_of(invitation))
    scanner.page.wait_for_load_state("networkidle")
    assert not Opening.objects.exists()
    person = arrive()
    person.go(path_of(invitation))
    with person.page.expect_response("**/invitation/opened/") as told:
        person.page.press("[name=username]", "a")
    assert told.value.status == 204
    assert Opening.objects.get().invitation_id == invitation.pk


@pytest.mark.parametrize("mode", ["invite", "closed"])
def test_pages_are_sound_when_not_everybody_may_sign_up(arrive: Arrive, settings: Settings, mode: str) -> None:
    settings.SIGNUP_MODE = mode
    faults = []
    for name, path in {"home": "/", "login": "/accounts/login/", "signup": "/accounts/signup/"}.items():
        visitor = arrive()
        faults += inspect(visitor, f"{name}-{mode}", path)
        assert visitor.page.locator("text=/Sign up|Create an account/").count() == 0
    assert faults == []


def test_a_stranger_cannot_tell_why_a_link_is_not_valid(arrive: Arrive) -> None:
    inviter = UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    made = one_of_each_kind(inviter)
    replaced = path_of(made["open"])
    Invitation.objects.filter(pk=made["open"].pk).update(nonce=uuid4())
    paths = ["/accounts/invitation/guessed/", replaced, path_of(made["revoked"]), path_of(made["powerless"])]
    pages = set()
    for path in paths:
        stranger = arrive()
        stranger.go(path)
        pages.add(stranger.page.title() + stranger.page.inner_html("body"))
    (page,) = pages
    assert "This invitation is not valid" in page


def test_an_auditor_sees_an_invitation_and_is_offered_nothing(visitor: Visitor) -> None:
    invitation = make_link(acting_user=UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True))
    auditor = UserFactory.create(username="auditor", is_staff=True)
    auditor.groups.add(Group.objects.get(name="Auditor"))
    sign_in(visitor, "auditor")
    visitor.go("/")
    assert "Invitations" not in visitor.text()
    visitor.go(f"/accounts/invitations/{invitation.pk}/")
    assert "Link for whoever holds it" in visitor.text()
    assert visitor.page.locator("main form, main a").count() == 0
