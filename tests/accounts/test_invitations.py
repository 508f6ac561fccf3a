"""What can happen to an invitation, without pages: who may, how long, how often, and what it leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from accounts import invitations, links, services
from accounts import jobs as jobs_module
from accounts.errors import AccountError
from accounts.invitations import Terms
from accounts.models import Invitation, Redemption, User
from auditlog.models import Record
from config.worker import Worker
from tests.accounts.conftest import jobs, run_jobs
from tests.factories import PASSWORD, InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db


def token(invitation: Invitation, *, mailed: bool = False) -> str:
    return links.invitation_url(invitation, mailed=mailed).split("/")[-2]


def sign_up(invitation: Invitation, username: str = "newcomer", email: str = "", **more: Any) -> services.SignUpOutcome:
    return services.sign_up(
        services.SignUp(
            username=username,
            email=email or invitation.email or f"{username}@example.com",
            password=PASSWORD,
            browser=username,
            invitation=more.pop("token", token(invitation)),
        )
    )


def fresh(invitation: Invitation) -> Invitation:
    return Invitation.objects.get(pk=invitation.pk)


def change(invitation: Invitation, **columns: Any) -> Invitation:
    Invitation.objects.filter(pk=invitation.pk).update(**columns)
    return fresh(invitation)


def code_of(refused: Any) -> str:
    return str(refused.value.code)


# Making


def test_an_invitation_to_an_address_is_mailed_by_the_worker(inviter: User) -> None:
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(note="Welcome aboard"), acting_user=inviter)
    assert (made.email, made.max_uses, made.invited_by_name) == ("ada@example.com", 1, "inviter")
    assert jobs() == [("send_invitation", [str(made.pk), "en"])]
    (message,) = run_jobs()
    assert message.to == ["ada@example.com"]
    assert links.invitation_url(made, mailed=True) in message.body
    assert fresh(made).delivery == "delivered"


def test_all_addresses_are_invited_or_none(inviter: User, owner: User) -> None:
    for bad, error in ((owner.email, AccountError), ("no-address", ValidationError)):
        with pytest.raises(error):
            invitations.invite_addresses(["ada@example.com", bad], Terms(), acting_user=inviter)
    assert (Invitation.objects.count(), jobs()) == (0, [])


def test_who_may_not_see_users_does_not_learn_which_addresses_are_known(owner: User) -> None:
    stranger = UserFactory.create()
    assert invitations.address_refusals([owner.email], acting_user=stranger) == {}
    assert list(invitations.address_refusals([owner.email], acting_user=None)) == [owner.email]


def test_links_are_made_many_at_once_and_each_is_its_own() -> None:
    made = invitations.make_links(3, Terms(max_uses=5, domain="EXAMPLE.com"), acting_user=None)
    assert len({links.invitation_url(one, mailed=False) for one in made}) == 3
    assert {(one.max_uses, one.domain, one.from_command) for one in Invitation.objects.all()} == {
        (5, "example.com", True)
    }
    assert jobs() == []


@pytest.mark.parametrize(
    "terms",
    [
        Terms(max_uses=0),
        Terms(max_uses=10_001),
        Terms(days=366),
        Terms(days=0),
        Terms(domain="no domain"),
        Terms(note="two\nlines"),
        Terms(note="x" * 501),
    ],
)
def test_terms_without_sense_are_refused(terms: Terms) -> None:
    with pytest.raises(ValidationError):
        invitations.make_links(1, terms, acting_user=None)
    assert not Invitation.objects.exists()


@pytest.mark.parametrize(
    "columns",
    [
        {"uses": 2},
        {"uses": -1},
        {"max_uses": 0},
        {"email": "a@example.com", "domain": "b.example"},
        {"max_uses": 2, "email": "a@example.com"},
    ],
)
def test_the_database_refuses_a_row_that_makes_no_sense(columns: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        InvitationFactory.create(**columns)


def test_the_database_keeps_one_open_invitation_for_an_address() -> None:
    InvitationFactory.create(email="Ada@Example.com")
    with pytest.raises(IntegrityError, match="accounts_invitation_one_open"), transaction.atomic():
        InvitationFactory.create(email="ada@example.com")
    for closed in ({"revoked_at": timezone.now()}, {"lapsed_at": timezone.now()}, {"uses": 1}):
        InvitationFactory.create(email="ada@example.com", **closed)


def test_nobody_invites_to_a_role_above_their_own(inviter: User) -> None:
    terms = Terms(roles=Group.objects.filter(name="Administrator"))
    for invite in (
        lambda: invitations.invite_addresses(["ada@example.com"], terms, acting_user=inviter),
        lambda: invitations.make_links(1, terms, acting_user=inviter),
    ):
        with pytest.raises(AccountError) as refused:
            invite()
        assert code_of(refused) == "role_above_own"
    assert not Invitation.objects.exists()


def test_while_sign_up_is_closed_nobody_is_invited(inviter: User, settings: Any) -> None:
    settings.SIGNUP_MODE = "closed"
    for acting_user in (inviter, None):
        with pytest.raises(AccountError) as refused:
            invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=acting_user)
        assert code_of(refused) == "invitations_closed"


def test_an_address_outside_the_allowed_domains_is_not_invited(settings: Any) -> None:
    settings.SIGNUP_EMAIL_DOMAINS = ["example.org"]
    with pytest.raises(ValidationError):
        invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    with pytest.raises(ValidationError):
        invitations.make_links(1, Terms(domain="example.com"), acting_user=None)
    invitations.make_links(1, Terms(domain="example.org"), acting_user=None)


# Quotas


def test_one_person_invites_so_many_a_day_and_commands_do_not_count(inviter: User, settings: Any) -> None:
    settings.INVITATIONS_PER_DAY = 3
    invitations.make_links(5, Terms(), acting_user=None)
    invitations.make_links(2, Terms(), acting_user=inviter)
    with pytest.raises(AccountError) as refused:
        invitations.invite_addresses(["a@example.com", "b@example.com"], Terms(), acting_user=inviter)
    assert code_of(refused) == "quota_of_inviter"
    assert "You may make 1 more invitations at the moment, not 2" in refused.value.message
    invitations.make_links(1, Terms(), acting_user=inviter)
    Invitation.objects.update(created_at=timezone.now() - timedelta(days=1, seconds=1))
    invitations.make_links(3, Terms(), acting_user=inviter)


def test_all_people_together_invite_so_many_a_day(inviter: User, administrator: User, settings: Any) -> None:
    settings.INVITATIONS_PER_DAY_OF_SITE = 3
    invitations.make_links(5, Terms(), acting_user=None)  # commands do not count
    invitations.make_links(2, Terms(), acting_user=inviter)
    with pytest.raises(AccountError) as refused:
        invitations.make_links(2, Terms(), acting_user=administrator)
    assert code_of(refused) == "quota_of_site"


# Inviting again, resending, replacing, revoking


def test_inviting_again_while_open_is_a_resend(inviter: User) -> None:
    (first,) = invitations.invite_addresses(["ada@example.com"], Terms(days=3), acting_user=inviter)
    change(first, sent_at=timezone.now() - timedelta(minutes=2), expires_at=timezone.now() + timedelta(hours=1))
    (again,) = invitations.invite_addresses(["ADA@example.com"], Terms(days=9), acting_user=inviter)
    assert (again.pk, again.was_open, first.was_open) == (first.pk, True, False)
    assert fresh(first).expires_at > timezone.now() + timedelta(days=2, hours=23)
    assert [name for name, _arguments in jobs()] == ["send_invitation"] * 2


def test_inviting_whom_somebody_above_has_invited_sends_nothing(inviter: User, administrator: User) -> None:
    above = InvitationFactory.create(invited_by=administrator, roles=["Administrator"], email="ada@example.com")
    (again,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=inviter)
    assert (again.pk, again.was_open, jobs()) == (above.pk, True, [])
    assert fresh(above).expires_at == above.expires_at


def test_the_same_list_sent_twice_mails_once(inviter: User) -> None:
    for _time in range(2):
        invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=inviter)
    assert len(jobs()) == 1


@pytest.mark.parametrize("lost", ["roles", "account"])
def test_an_open_one_whose_inviter_lost_the_right_keeps_nobody_else_from_inviting(inviter: User, lost: str) -> None:
    successor = UserFactory.create(username="successor", is_staff=True)
    successor.groups.set(Group.objects.filter(name="Support"))
    (powerless,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=inviter)
    change(powerless, sent_at=None)
    inviter.groups.clear() if lost == "roles" else inviter.delete()
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=successor)
    assert (made.pk != powerless.pk, fresh(made).state, made.invited_by) == (True, "open", successor)
    assert fresh(powerless).lapsed_at is not None


@pytest.mark.parametrize("ended", [{"uses": 1}, {"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_after_its_end_inviting_again_makes_a_new_row(ended: dict[str, Any]) -> None:
    first = InvitationFactory.create(email="ada@example.com", **ended)
    (second,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    assert second.pk != first.pk
    assert fresh(second).state == "open"
    if "expires_at" in ended:
        with pytest.raises(AccountError) as refused:
            invitations.resend(first.pk, acting_user=None)
        assert code_of(refused) == "invitation_followed"


@pytest.mark.parametrize("act", [invitations.resend, invitations.replace])
def test_used_and_revoked_ones_cannot_be_sent_again(act: Any) -> None:
    for ended, code in (({"uses": 1}, "invitation_used"), ({"revoked_at": timezone.now()}, "invitation_revoked")):
        invitation = InvitationFactory.create(**ended)
        with pytest.raises(AccountError) as refused:
            act(invitation.pk, acting_user=None)
        assert code_of(refused) == code
        assert fresh(invitation).nonce == invitation.nonce


def test_an_expired_one_opens_again_with_the_same_link() -> None:
    invitation = InvitationFactory.create(expires_at=timezone.now() - timedelta(days=1), lifetime_days=2)
    invitations.resend(invitation.pk, acting_user=None)
    assert fresh(invitation).state == "open"
    assert sign_up(invitation) is services.SignUpOutcome.CREATED


def test_a_resend_never_shortens() -> None:
    later = timezone.now() + timedelta(days=100)
    invitation = InvitationFactory.create(expires_at=later)
    assert invitations.resend(invitation.pk, acting_user=None).expires_at == later


@pytest.mark.parametrize("act", [invitations.resend, invitations.replace])
def test_a_double_click_on_resend_or_replace_mails_once(act: Any, inviter: User) -> None:
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=inviter)
    with pytest.raises(AccountError) as refused:
        act(made.pk, acting_user=inviter)
    assert code_of(refused) == "invitation_sent_recently"
    assert (len(jobs()), fresh(made).nonce) == (1, made.nonce)


def test_a_resend_carries_the_same_link_and_replacing_kills_the_old_one() -> None:
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    change(made, sent_at=None)
    first = token(made)
    assert token(invitations.resend(made.pk, acting_user=None)) == first
    change(made, sent_at=None)
    replaced = invitations.replace(made.pk, acting_user=None)
    assert token(replaced) != first
    with pytest.raises(AccountError) as refused:
        sign_up(made, token=first)
    assert code_of(refused) == "invitation_invalid"
    assert sign_up(made, token=token(replaced)) is services.SignUpOutcome.CREATED


def test_a_revoked_one_looks_like_an_unknown_one() -> None:
    invitation = InvitationFactory.create()
    invitations.revoke(invitation.pk, acting_user=None)
    with pytest.raises(AccountError) as refused:
        sign_up(invitation)
    assert code_of(refused) == "invitation_invalid"
    with pytest.raises(AccountError) as refused:
        invitations.revoke(invitation.pk, acting_user=None)
    assert code_of(refused) == "invitation_revoked"


@pytest.mark.parametrize("act", [invitations.resend, invitations.replace, invitations.revoke])
def test_somebody_elses_invitation_is_the_business_of_support_only(act: Any, inviter: User, colleague: User) -> None:
    invitation = InvitationFactory.create(invited_by=inviter)
    with pytest.raises(PermissionDenied):
        act(invitation.pk, acting_user=colleague)
    colleague.groups.set(Group.objects.filter(name="Support"))
    act(invitation.pk, acting_user=User.objects.get(pk=colleague.pk))


def test_who_could_not_grant_its_roles_cannot_send_it_anywhere(inviter: User, administrator: User) -> None:
    invitation = InvitationFactory.create(invited_by=administrator, roles=["Administrator"])
    for act in (invitations.resend, invitations.replace):
        with pytest.raises(PermissionDenied):
            act(invitation.pk, acting_user=inviter)
    invitations.revoke(invitation.pk, acting_user=inviter)


# Using


def test_a_signup_takes_one_use_and_notes_who_came() -> None:
    invitation = InvitationFactory.create(max_uses=2)
    assert sign_up(invitation) is services.SignUpOutcome.CREATED
    assert (fresh(invitation).uses, fresh(invitation).state) == (1, "open")
    assert [(one.invitation_id, one.username) for one in Redemption.objects.all()] == [(invitation.pk, "newcomer")]
    newcomer = User.objects.get(username="newcomer")
    assert newcomer.redemption.invitation == invitation
    assert [one.name for one in newcomer.groups.all()] == ["Member"]


def test_a_signup_without_an_invitation_makes_a_member() -> None:
    services.sign_up(services.SignUp(username="ada", email="ada@example.com", password=PASSWORD, browser="b"))
    assert [one.name for one in User.objects.get(username="ada").groups.all()] == ["Member"]


@pytest.mark.parametrize("mode", ["invite", "closed"])
def test_the_service_itself_asks_for_an_invitation(settings: Any, mode: str) -> None:
    settings.SIGNUP_MODE = mode
    with pytest.raises(AccountError) as refused:
        services.sign_up(services.SignUp(username="ada", email="ada@example.com", password=PASSWORD, browser="b"))
    assert code_of(refused) == "signup_closed"


def test_the_roles_come_with_it_and_open_the_console(administrator: User) -> None:
    invitation = InvitationFactory.create(invited_by=administrator, roles=["Support", "Auditor"])
    sign_up(invitation)
    newcomer = User.objects.get(username="newcomer")
    assert {one.name for one in newcomer.groups.all()} == {"Support", "Auditor"}
    assert (newcomer.is_staff, newcomer.is_superuser) == (True, False)


def test_an_address_counts_as_verified_if_the_link_came_by_mail_and_only_then() -> None:
    (mailed,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    (shown,) = invitations.invite_addresses(["bob@example.com"], Terms(), acting_user=None)
    DBTaskResult.objects.all().delete()
    sign_up(mailed, "ada", token=token(mailed, mailed=True))
    assert (User.objects.get(username="ada").email_verified_at is None, jobs()) == (False, [])
    sign_up(shown, "bob")
    bob = User.objects.get(username="bob")
    assert (bob.email_verified_at, jobs()) == (None, [("send_mail_to_user", ["verify_email", str(bob.pk)])])


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"uses": 1}, "invitation_used"),
        ({"expires_at": timezone.now()}, "invitation_expired"),
        ({"lapsed_at": timezone.now()}, "invitation_expired"),
        ({"revoked_at": timezone.now()}, "invitation_invalid"),
        ({"email": "somebody.else@example.com"}, "invitation_other_address"),
        ({"domain": "example.org"}, "invitation_other_domain"),
        ({"domain": "sub.example.com"}, "invitation_other_domain"),
    ],
)
def test_a_refused_signup_says_why_and_burns_no_use(columns: dict[str, Any], code: str) -> None:
    invitation = InvitationFactory.create(**columns)
    with pytest.raises(AccountError) as refused:
        sign_up(invitation, email="newcomer@example.com")
    assert code_of(refused) == code
    assert fresh(invitation).uses == invitation.uses
    assert not User.objects.exists()


def test_a_taken_name_burns_no_use(owner: User) -> None:
    invitation = InvitationFactory.create()
    with pytest.raises(AccountError) as refused:
        sign_up(invitation, username="Owner")
    assert code_of(refused) == "username_taken"
    assert fresh(invitation).uses == 0


def test_a_used_one_is_said_before_a_taken_name(owner: User) -> None:
    with pytest.raises(AccountError) as refused:
        sign_up(InvitationFactory.create(uses=1), username="Owner")
    assert code_of(refused) == "invitation_used"


def test_a_known_address_is_answered_alike_and_burns_no_use(owner: User) -> None:
    invitation = InvitationFactory.create()
    assert sign_up(invitation, email=owner.email) is services.SignUpOutcome.ADDRESS_KNOWN
    assert fresh(invitation).uses == 0


def test_the_same_form_again_gets_the_first_answer_and_takes_one_use() -> None:
    invitation = InvitationFactory.create()
    assert sign_up(invitation) is services.SignUpOutcome.CREATED
    assert sign_up(invitation) is services.SignUpOutcome.REPEATED
    assert (fresh(invitation).uses, User.objects.count()) == (1, 1)


def test_a_domain_matches_however_it_is_written() -> None:
    invitation = InvitationFactory.create(domain="xn--bcher-kva.example", max_uses=2)
    sign_up(invitation, "ada", "ada@BÜCHER.example")
    sign_up(invitation, "bob", "bob@xn--bcher-kva.example")
    assert fresh(invitation).uses == 2


@pytest.mark.parametrize(
    "odd",
    ["", "x", "a.b", "\0", "ü.ü", "." * 300, "AAAA.BBBB"],
)
def test_a_forged_token_is_not_valid(odd: str) -> None:
    invitation = InvitationFactory.create()
    for forged in (odd, token(invitation)[:-1], token(invitation) + "A", "B" + token(invitation)[1:]):
        with pytest.raises(AccountError) as refused:
            invitations.take_use(forged, email="ada@example.com")
        assert code_of(refused) == "invitation_invalid"


def test_a_token_for_another_purpose_opens_nothing(owner: User) -> None:
    with pytest.raises(AccountError):
        invitations.find(links.verification_token(owner))


def test_a_former_secret_key_still_opens_and_an_unknown_one_does_not(settings: Any) -> None:
    invitation = InvitationFactory.create()
    old, former = token(invitation), settings.SECRET_KEY
    settings.SECRET_KEY = "another" * 10
    with pytest.raises(AccountError):
        invitations.find(old)
    settings.SECRET_KEY_FALLBACKS = [former]
    assert invitations.find(old) == invitation


def test_no_row_holds_what_opens_it() -> None:
    invitation = InvitationFactory.create()
    (row,) = Invitation.objects.values()
    opening = token(invitation)
    assert all(str(value) not in opening for value in row.values() if len(str(value)) > 8)


# Authority


@pytest.mark.parametrize("lost", ["demoted", "deactivated", "put aside", "deleted", "role taken"])
def test_an_inviter_who_lost_the_right_lets_nobody_in_any_more(inviter: User, lost: str) -> None:
    invitation = InvitationFactory.create(invited_by=inviter, roles=["Support"])
    assert invitations.has_authority(invitation)
    if lost == "demoted":
        inviter.groups.set(Group.objects.filter(name="Auditor"))
    elif lost == "deactivated":
        User.objects.filter(pk=inviter.pk).update(is_active=False)
    elif lost == "put aside":
        User.objects.filter(pk=inviter.pk).update(deleted_at=timezone.now())
    elif lost == "role taken":
        User.objects.filter(pk=inviter.pk).update(is_staff=False)
    else:
        inviter.delete()
    with pytest.raises(AccountError) as refused:
        sign_up(invitation)
    assert code_of(refused) == "inviter_lost_authority"
    after = fresh(invitation)
    assert (after.uses, after.invited_by_name, User.objects.filter(username="newcomer").count()) == (0, "inviter", 0)
    assert not invitations.has_authority(after)
    with pytest.raises(AccountError):
        invitations.resend(invitation.pk, acting_user=None)


# Mail


def test_a_failed_mail_loses_nothing_and_is_tried_again(settings: Any) -> None:
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    settings.EMAIL_BACKEND = "django.core.mail.backends.nowhere.EmailBackend"
    job = DBTaskResult.objects.get()
    worker = Worker(once=True)
    job.claim(worker.worker_id)
    worker.run_task(job)
    assert fresh(made).delivery == "failed"
    job.refresh_from_db()
    assert (job.status, job.run_after > timezone.now()) == ("READY", True)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    DBTaskResult.objects.update(run_after=timezone.now())
    assert len(run_jobs()) == 1
    assert fresh(made).delivery == "delivered"


def test_the_trail_says_of_a_mail_that_goes_out_at_once_that_it_waited_and_was_delivered() -> None:
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    run_jobs()
    records = Record.objects.filter(resource="accounts.invitation", object_id=str(made.pk)).order_by("id")
    assert [record.after.get("delivery") for record in records] == ["queued", "delivered"]


def test_an_invitation_that_ended_meanwhile_is_not_mailed() -> None:
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    invitations.revoke(made.pk, acting_user=None)
    assert run_jobs() == []
    assert fresh(made).delivery == "failed"


def test_one_address_gets_so_many_mails_of_invitations_and_no_more() -> None:
    (made,) = invitations.invite_addresses(["ada@example.com"], Terms(), acting_user=None)
    for _time in range(jobs_module.MOST_REQUESTED_MAILS + 1):
        jobs_module.send_invitation.call(str(made.pk))
    assert len(mail.outbox) == jobs_module.MOST_REQUESTED_MAILS - 1  # the last is kept for a reset
    assert fresh(made).delivery == "failed"


# Asking for a new one


def test_asking_for_a_new_one_tells_the_inviter_once_a_day(inviter: User) -> None:
    expired = InvitationFactory.create(
        email="ada@example.com", invited_by=inviter, expires_at=timezone.now() - timedelta(hours=1)
    )
    for _time in range(3):
        invitations.ask_for_new(token(expired))
    (message,) = run_jobs()
    assert message.to == [inviter.email]
    assert f"/accounts/invitations/{expired.pk}/" in message.body
    change(expired, asked_at=timezone.now() - timedelta(days=1, seconds=1))
    invitations.ask_for_new(token(expired))
    assert len(run_jobs()) == 1
    # Once it was sent again, who comes too late again may ask at once.
    invitations.resend(expired.pk, acting_user=inviter)
    change(expired, expires_at=timezone.now())
    invitations.ask_for_new(token(expired))
    assert [name for name, _arguments in jobs()] == ["send_invitation", "send_invitation_asked"]


def test_there_is_nobody_to_ask_about_an_open_one_or_without_an_inviter(inviter: User) -> None:
    past = timezone.now() - timedelta(hours=1)
    for invitation in (
        InvitationFactory.create(invited_by=inviter),
        InvitationFactory.create(expires_at=past),
        InvitationFactory.create(expires_at=past, lapsed_at=past, invited_by=inviter),
    ):
        with pytest.raises(AccountError):
            invitations.ask_for_new(token(invitation))
    assert (mail.outbox, jobs()) == ([], [])


def test_exactly_at_its_end_it_is_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    # The database's own clock decides; here it stands.
    monkeypatch.setattr(Now, "as_postgresql", lambda *_, **__: ("timestamptz '2026-11-21 12:00+00'", []))
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    for late, state in ((0, "expired"), (1, "open")):
        assert InvitationFactory.create(expires_at=noon + timedelta(microseconds=late)).state == state
