"""What the audit trail holds of the events of an account: exactly what happened, to whom, by whom, and why."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from accounts import invitations, services
from accounts.invitations import Terms
from accounts.models import Invitation, LoginAttempt, User
from auditlog.models import Record
from tests.accounts.conftest import failures, let_pass, link_in, run_jobs, sign_in
from tests.factories import PASSWORD, InvitationFactory, UserFactory
from tests.live import at_once

pytestmark = pytest.mark.django_db
NEW = "Another-Horse-8-Battery"
Seen = tuple[str, str, str, str | None]


class Trail:
    """What is recorded from now on: action, kind of object, its label, reason; and the last record itself."""

    def __init__(self) -> None:
        latest = Record.objects.order_by("-id").first()
        self.begin = latest.id if latest else 0

    @property
    def records(self) -> list[Record]:
        return list(Record.objects.filter(id__gt=self.begin).order_by("id"))

    @property
    def seen(self) -> list[Seen]:
        return [(each.action, each.resource, (each.object_label or "").strip(), each.reason) for each in self.records]

    @property
    def last(self) -> Record:
        return self.records[-1]


def test_a_changed_password_is_one_record_which_shows_only_that_it_changed(owner: User, owners_browser: Client) -> None:
    trail = Trail()
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert owners_browser.post("/accounts/password/change/", form).status_code == 303
    assert trail.seen == [("update", "accounts.user", "owner", "own password changed")]
    assert (trail.last.actor_kind, trail.last.actor_id) == ("user", str(owner.pk))
    assert {name for name in trail.last.after if name not in ("version", "updated_at")} == {"password"}
    assert trail.last.after["password"].keys() == {"masked"}


def test_a_reset_password_is_one_record_by_whoever_holds_the_link(owner: User, stranger: Client) -> None:
    services.request_password_reset("owner@example.com")
    (message,) = run_jobs()
    page = stranger.get(link_in(message), follow=True)
    trail = Trail()
    form = {"new_password1": NEW, "new_password2": NEW}
    assert stranger.post(page.request["PATH_INFO"], form).status_code == 303
    assert trail.seen == [("update", "accounts.user", "owner", "password reset by a mailed link")]
    assert (trail.last.actor_kind, trail.last.actor_id) == ("anonymous", None)


def test_a_hash_that_is_renewed_at_login_says_so(owner: User, stranger: Client) -> None:
    trail = Trail()
    with override_settings(PASSWORD_HASHERS=["accounts.hashers.ScryptHasher", "accounts.hashers.BcryptHasher"]):
        assert sign_in(stranger, "owner").status_code == 302
    assert trail.seen == [
        ("update", "accounts.user", "owner", "the same password, hashed anew"),
        ("login", "accounts.user", "owner", None),
    ]


def test_a_confirmed_address_is_one_record(owner: User, stranger: Client) -> None:
    User.objects.update(email_verified_at=None)
    services.send_verification("owner@example.com")
    (message,) = run_jobs()
    stranger.get(link_in(message), follow=True)
    trail = Trail()
    assert stranger.post("/accounts/verify/").status_code == 303
    assert trail.seen == [("update", "accounts.user", "owner", "e-mail address confirmed")]


def test_a_link_to_choose_a_password_is_recorded_when_it_is_sent(
    owner: User, administrator: User, admins_browser: Client
) -> None:
    trail = Trail()
    form = {"action": "send_set_password_link", "_selected_action": [str(owner.pk)]}
    assert admins_browser.post("/admin/accounts/user/", form).status_code == 302
    assert trail.seen == [("set_password_link_sent", "accounts.user", "owner", None)]
    assert (trail.last.actor_id, trail.last.origin) == (str(administrator.pk), "event")


def test_a_login_and_a_logout_are_one_record_each(owner: User, stranger: Client) -> None:
    trail = Trail()
    sign_in(stranger, "owner")
    stranger.post("/accounts/logout/")
    assert trail.seen == [("login", "accounts.user", "owner", None), ("logout", "accounts.user", "owner", None)]
    assert {record.actor_id for record in trail.records} == {str(owner.pk)}


def test_failures_are_recorded_and_the_lock_once_not_each_refused_try(owner: User, stranger: Client) -> None:
    trail = Trail()
    assert failures(stranger, 9) == [422] * 5 + [429] * 4
    failed = ("login_failed", "accounts.user", "owner", None)
    assert trail.seen == [failed] * 5 + [("locked_out", "accounts.user", "owner", None)]
    assert (trail.last.object_id, trail.last.new) == (str(owner.pk), {"minutes": 30})
    assert {(record.actor_kind, record.address) for record in trail.records} == {("anonymous", "127.0.0.1")}
    let_pass(minutes=31)
    failures(stranger, 6)
    assert [action for action, *_rest in trail.seen].count("locked_out") == 2


def test_a_failure_says_where_it_was_and_what_it_was(owner: User, owners_browser: Client) -> None:
    trail = Trail()
    failures(Client(), 1)
    owners_browser.post("/accounts/confirm/", {"password": "Wrong-Password-1"})
    owners_browser.post("/accounts/password/change/", {"old_password": "Wrong-Password-1"})
    Client().post("/admin/login/", {"username": "owner", "password": PASSWORD})
    User.objects.update(email_verified_at=None)
    sign_in(Client(), "owner")
    assert [
        (record.new, record.reason, record.actor_kind) for record in trail.records if record.action == "login_failed"
    ] == [
        ({"page": "login"}, None, "anonymous"),
        ({"page": "confirm"}, "wrong password when asked again", "user"),
        ({"page": "password_change"}, "wrong password when asked again", "user"),
        ({"page": "admin:login"}, "right password, not staff", "anonymous"),
        ({"page": "login"}, "right password, address not confirmed", "anonymous"),
    ]


def test_code_without_a_request_leaves_its_failures_too(owner: User) -> None:
    trail = Trail()
    assert authenticate(None, username="owner", password="Wrong-Password-1") is None
    assert authenticate(None, username="nobody", password="Wrong-Password-1") is None
    assert authenticate(None, username="", password="Wrong-Password-1") is None
    assert [(action, resource) for action, resource, *_rest in trail.seen] == [
        ("login_failed", "accounts.user"),
        ("login_failed", "login"),
    ]


def test_a_right_password_at_the_last_moment_begins_no_lock(owner: User, stranger: Client) -> None:
    trail = Trail()
    failures(stranger, 4)
    sign_in(stranger, "owner")
    assert "locked_out" not in [action for action, *_rest in trail.seen]


def test_the_name_of_nobody_is_a_fingerprint_because_it_may_be_a_password(stranger: Client) -> None:
    trail = Trail()
    failures(stranger, 1, "Correct-Horse-7-Battery")
    failures(stranger, 1, "CORRECT-horse-7-battery")
    failures(stranger, 1, "somebody-else")
    labels = [record.object_label or "" for record in trail.records]
    assert all(label.startswith("unknown name ") and len(label) == 25 for label in labels)
    assert labels[0] == labels[1] != labels[2]
    assert {(record.resource, record.object_id) for record in trail.records} == {("login", None)}
    told = str([vars(record) for record in trail.records]).lower()
    assert not any(word in told for word in ("correct", "horse", "battery", "somebody"))


def test_an_unknown_name_is_locked_and_recorded_as_a_known_one_is(owner: User) -> None:
    known, unknown = Trail(), None
    failures(Client(), 7)
    first = [action for action, *_rest in known.seen]
    unknown = Trail()
    failures(Client(), 7, "nobody", REMOTE_ADDR="192.0.2.99")
    assert [action for action, *_rest in unknown.seen] == first


@pytest.mark.django_db(transaction=True)
def test_guesses_in_parallel_record_their_lock_once() -> None:
    UserFactory.create(username="owner")
    trail = Trail()
    statuses = at_once([_fail_and_close] * 12)
    assert sorted(statuses) == [422] * 5 + [429] * 7
    actions = [action for action, *_rest in trail.seen]
    assert (actions.count("login_failed"), actions.count("locked_out")) == (5, 1)


def _fail_and_close() -> Any:
    from django.db import connections

    try:
        return failures(Client(), 1)[0]
    finally:
        connections.close_all()


def test_an_invitation_has_a_record_for_each_step_with_its_reason(inviter: User) -> None:
    trail = Trail()
    (invitation,) = invitations.invite_addresses(["guest@example.com"], Terms(), acting_user=inviter)
    assert trail.seen[0][0] == "create"
    Invitation.objects.update(sent_at=None)
    for act, reason in (
        (invitations.resend, "sent again"),
        (invitations.replace, "given a new link"),
        (invitations.revoke, "revoked"),
    ):
        trail = Trail()
        act(invitation.pk, acting_user=inviter)
        assert trail.seen == [("update", "accounts.invitation", "guest@example.com", reason)]
        Invitation.objects.filter(pk=invitation.pk).update(sent_at=None)
    assert "nonce" not in str(trail.last.new)


def test_who_comes_by_an_invitation_leaves_its_use_in_the_trail(stranger: Client) -> None:
    invitation = InvitationFactory.create()
    from accounts import links

    trail = Trail()
    stranger.get(links.invitation_url(invitation, mailed=False).removeprefix("http://localhost:8000"), follow=True)
    form = {"username": "guest", "email": "guest@example.com", "password": PASSWORD}
    assert stranger.post("/accounts/invitation/", form).status_code == 303
    seen = [(action, resource) for action, resource, *_rest in trail.seen]
    assert seen == [
        ("update", "accounts.invitation"),
        ("create", "accounts.user"),
        ("add", "accounts.user"),
        ("create", "accounts.redemption"),
    ]
    assert {(record.reason, record.actor_kind) for record in trail.records} == {("signup", "anonymous")}


def test_a_command_acts_for_whoever_it_names(inviter: User, capsys: Any) -> None:
    trail = Trail()
    call_command("invite", "guest@example.com", "--by", "inviter")
    assert {(each.actor_kind, each.on_behalf_label) for each in trail.records} == {("command", "inviter")}


def test_whatever_is_forgotten_of_tries_is_no_change_of_an_audited_row(owner: User) -> None:
    failures(Client(), 2)
    trail = Trail()
    LoginAttempt.objects.all().delete()
    assert trail.seen == []


def test_a_failure_costs_as_many_statements_for_a_known_name_as_for_an_unknown_one(owner: User) -> None:
    counts = []
    for name, address in (("owner", "192.0.2.1"), ("nobody", "192.0.2.2")):
        browser = Client(REMOTE_ADDR=address)
        browser.get("/accounts/login/")
        with CaptureQueriesContext(connection) as queries:
            failures(browser, 5, name)  # the lock that begins included
        counts.append(len(queries))
    assert counts[0] == counts[1]
