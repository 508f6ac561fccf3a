"""Every mail: one line of subject, a text, the same in HTML, and the link it is about."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.core import mail
from django.db.models import F
from django.utils import timezone
from structlog.testing import capture_logs

from accounts import emails, invitations, jobs, links
from accounts.models import Invitation, RequestedMail, User
from accounts.second_factor.models import RecoveryLink
from config import retention
from config.worker import Worker
from tests.accounts.conftest import run_jobs
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

# mail -> (subject, the address that it is about)
MAILS = {
    "verify_email": ("Confirm your e-mail address", r"/accounts/verify/[\w:-]{40,}/"),
    "address_known": ("You already have an account", r"/accounts/login/"),
    "password_reset": ("Choose a new password", r"/accounts/password/reset/\w+/[\w-]{30,}/"),
    "password_changed": ("Your password was changed", r"/accounts/password/reset/"),
    "set_password": ("Your new account: choose a password", r"/accounts/password/reset/\w+/[\w-]{30,}/"),
    "erasure_scheduled": ("Your account will be erased", r"/accounts/delete/cancel/[\w:-]{40,}/"),
    "erasure_cancelled": ("Your account stays", r"/accounts/password/reset/"),
    "address_asked": ("Your e-mail address is about to change", r"/accounts/password/reset/"),
    "address_in_use": ("Somebody wants to use your e-mail address", r"/accounts/login/"),
    "data_ready": ("Your data is ready", r"/accounts/data/"),
    "address_restored": ("Your e-mail address is back", r"/accounts/password/reset/\w+/[\w-]{30,}/"),
    "second_factor_added": ("A second factor was added", r"/accounts/security/second-factor/"),
    "second_factor_removed": ("A second factor was removed", r"/accounts/security/second-factor/"),
    "second_factor_codes_replaced": ("New recovery codes were made", r"/accounts/security/second-factor/"),
    "second_factor_code_used": ("A recovery code was used", r"/accounts/security/second-factor/"),
    "second_factor_recovery": (
        "Begin anew without a second factor",
        r"/accounts/login/second-factor/recovery/[\w:-]{80,}/",
    ),
    "second_factor_recovered": ("Your second factors were removed", r"/accounts/security/second-factor/"),
}
ABOUT_INVITATIONS = {"invitation", "invitation_asked"}
ABOUT_ADDRESSES = {"address_confirm", "address_changed", "address_moved"}
ABOUT_A_LOGIN = {"new_device"}


@pytest.fixture
def newcomer(db: None) -> User:
    user = UserFactory.create(username="jane", email="jane@example.com", email_verified_at=None)
    RecoveryLink.objects.create(user=user)  # without one, the mail about it is needless
    return user


def sent(name: str, user: User) -> Any:
    if name == "erasure_scheduled":
        User.objects.filter(pk=user.pk).update(erase_at=datetime(2041, 5, 6, 7, 8, tzinfo=UTC))
    jobs.send_mail_to_user.call(name, str(user.pk))
    (message,) = mail.outbox
    mail.outbox.clear()
    return message


def html_of(message: Any) -> str:
    ((html, kind),) = message.alternatives
    assert kind == "text/html"
    return str(html)


def test_these_are_all_the_mails() -> None:
    folder = project_settings.BASE_DIR / "templates" / "emails"
    assert set(emails.MAILS) == set(MAILS)
    trios = {
        f"{name}{ending}"
        for name in {*MAILS, *ABOUT_INVITATIONS, *ABOUT_ADDRESSES, *ABOUT_A_LOGIN}
        for ending in (".subject.txt", ".txt", ".html")
    }
    frames = {f"{name}{ending}" for name in ("base", "second_factor_notice") for ending in (".txt", ".html")}
    assert {path.name for path in folder.iterdir()} == trios | frames


@pytest.mark.parametrize(("name", "subject", "link"), [(name, *about) for name, about in MAILS.items()])
def test_each_mail_is_whole(newcomer: User, name: str, subject: str, link: str) -> None:
    if name == "address_known":
        User.objects.filter(pk=newcomer.pk).update(email_verified_at=timezone.now())
        newcomer.refresh_from_db()
    message = sent(name, newcomer)
    assert (message.subject, message.to) == (subject, ["jane@example.com"])
    assert message.from_email == project_settings.DEFAULT_FROM_EMAIL
    found = {
        text_or_html: set(re.findall(rf"http://localhost:8000{link}(?![\w/])", text))
        for text_or_html, text in (("text", message.body), ("html", html_of(message)))
    }
    assert len(found["text"]) == 1
    assert found["text"] == found["html"]
    assert message.body.startswith("Hello jane,\n\n")
    assert message.body.rstrip().endswith("-- \nGatehouse\nhttp://localhost:8000")
    for text in (message.body, html_of(message)):
        assert not re.search(r"{[{%#]|%\(|None", text)
    # What the mail server gets is complete as well.
    assert message.message().get_content_type() == "multipart/alternative"


@pytest.mark.parametrize("name", MAILS)
def test_no_mail_carries_text_of_a_strangers_choice(newcomer: User, name: str) -> None:
    User.objects.filter(pk=newcomer.pk).update(full_name="<b>You have won: visit evil.example</b>")
    newcomer.refresh_from_db()
    message = sent(name, newcomer)
    assert "evil.example" not in str(message.body) + html_of(message)
    assert message.body.startswith("Hello jane,\n\n")


def test_who_signs_up_again_before_confirming_gets_the_link_again(newcomer: User) -> None:
    User.objects.filter(pk=newcomer.pk).update(email_verified_at=None)
    newcomer.refresh_from_db()
    assert sent("address_known", newcomer).subject == "Confirm your e-mail address"


@pytest.mark.parametrize("name", MAILS)
def test_links_are_built_on_the_configured_address(newcomer: User, settings: Any, name: str) -> None:
    settings.BASE_URL = "https://accounts.example.org"
    message = sent(name, newcomer)
    for text in (message.body, html_of(message)):
        addresses = re.findall(r"https?://[^\s\"<]+", text)
        assert addresses
        assert all(address.startswith("https://accounts.example.org") for address in addresses)


def test_hours_are_told_in_the_right_number(newcomer: User, settings: Any) -> None:
    settings.EMAIL_VERIFICATION_HOURS, settings.PASSWORD_RESET_TIMEOUT = 1, 3 * 3600
    assert "The link works for 1 hour." in sent("verify_email", newcomer).body
    assert "The link works once, for 3 hours." in sent("password_reset", newcomer).body


def test_a_mail_to_an_international_domain_can_be_sent() -> None:
    message = sent("password_reset", UserFactory.create(email="jane@bücher.de"))
    assert "jane@xn--bcher-kva.de" in message.message().as_string()


# --- invitations ------------------------------------------------------------------------------------


def invited(acting_user: User | None, note: str = "", email: str = "grace@example.com") -> Invitation:
    """An invitation to `email`, or a link when it is empty, that expires at a moment easily recognised."""
    terms = invitations.Terms(note=note)
    if email:
        (made,) = invitations.invite_addresses([email], terms, acting_user=acting_user)
    else:
        (made,) = invitations.make_links(1, terms, acting_user=acting_user)
    Invitation.objects.filter(pk=made.pk).update(
        created_at=datetime(2040, 1, 2, 3, 4, tzinfo=UTC), expires_at=datetime(2041, 5, 6, 7, 8, tzinfo=UTC)
    )
    return Invitation.objects.get(pk=made.pk)


def mail_of(job: Any, invitation: Invitation) -> Any:
    job.call(str(invitation.pk))
    (message,) = mail.outbox
    mail.outbox.clear()
    return message


def targets(html: str) -> set[str]:
    return set(re.findall(r'(?:href|src|action)="([^"]*)"', html))


INVITATION = """\
Hello,

{who}

{note}Open this link to choose your username and your password:

{url}

The link is for grace@example.com and works once, until 6 May 2041, 07:08 UTC. Please do not pass it on.

If you did not expect this, you can ignore this mail: nothing happens unless you open the link and fill in the form.

--\x20
Gatehouse
http://localhost:8000"""


@pytest.mark.parametrize("note", ["", "See you on Monday."])
@pytest.mark.parametrize("by_command", [False, True])
def test_an_invitation_is_whole(administrator: User, note: str, by_command: bool) -> None:
    invitation = invited(None if by_command else administrator, note)
    message = mail_of(jobs.send_invitation, invitation)
    url = links.invitation_url(invitation, mailed=True)
    assert (message.subject, message.to) == ("You are invited to Gatehouse", ["grace@example.com"])
    who, writes = "keeper has invited you to create an account at Gatehouse.", "keeper writes:"
    if by_command:
        who, writes = "You were invited to create an account at Gatehouse.", "A note came with it:"
    quoted = f"{writes}\n\n> {note}\n\n" if note else ""
    assert message.body.rstrip() == INVITATION.format(who=who, note=quoted, url=url)
    html = html_of(message)
    assert targets(html) == {url, "http://localhost:8000"}
    for part in (who, writes, f'<blockquote dir="auto">{note}</blockquote>'):
        assert (part in html) == bool(note or part == who)
    assert "Hello," in html
    assert (invitation.invited_by_name in message.body + html) != by_command
    assert not re.search(r"{[{%#]|%\(|None", message.body + html)


def test_a_note_is_quoted_and_makes_no_link_and_no_markup(administrator: User) -> None:
    note = "<b>Win</b> & see https://evil.example/\"onclick='x'"
    message = mail_of(jobs.send_invitation, invited(administrator, note))
    assert message.body.count("evil.example") == message.body.count(f"\n\n> {note}\n\n") == 1
    html = html_of(message)
    assert (
        '<blockquote dir="auto">&lt;b&gt;Win&lt;/b&gt; &amp; see https://evil.example/&quot;onclick=&#x27;x&#x27;</blockquote>'
        in html
    )
    assert html.count("evil.example") == 1
    assert all(target.startswith("http://localhost:8000") for target in targets(html))


@pytest.mark.parametrize(
    ("email", "about", "button"),
    [
        ("grace@example.com", "Your invitation for grace@example.com expired on 6 May 2041, 07:08 UTC.", "Send again"),
        ("", "The link that you made on 2 January 2040, 03:04 UTC expired on 6 May 2041, 07:08 UTC.", "Extend"),
    ],
)
def test_the_inviter_is_told_who_came_too_late(administrator: User, email: str, about: str, button: str) -> None:
    invitation = invited(administrator, email=email)
    message = mail_of(jobs.send_invitation_asked, invitation)
    url = f"http://localhost:8000/accounts/invitations/{invitation.pk}/"
    assert (message.subject, message.to) == ("Somebody asks you for a new invitation", ["keeper@example.com"])
    assert message.body.startswith(f"Hello keeper,\n\n{about} Somebody has opened ")
    assert f"press “{button}”:\n\n{url}\n\n" in message.body
    html = html_of(message)
    assert targets(html) == {url, "http://localhost:8000"}
    assert all(text in re.sub(r"\s+", " ", html) for text in ("Hello keeper,", about, f"press “{button}”:"))
    for text in (message.body, html):
        assert not re.search(r"{[{%#]|%\(|None", text)


@pytest.mark.parametrize("job", [jobs.send_invitation, jobs.send_invitation_asked])
def test_links_of_invitations_are_built_on_the_configured_address(administrator: User, settings: Any, job: Any) -> None:
    settings.BASE_URL = "https://accounts.example.org"
    message = mail_of(job, invited(administrator))
    for text in (message.body, html_of(message)):
        addresses = re.findall(r"https?://[^\s\"<]+", text)
        assert addresses
        assert all(address.startswith("https://accounts.example.org") for address in addresses)


# --- jobs -------------------------------------------------------------------------------------------


def test_the_job_of_an_account_that_is_gone_does_nothing(newcomer: User) -> None:
    User.objects.filter(pk=newcomer.pk).update(deleted_at=timezone.now())
    jobs.send_mail_to_user.call("verify_email", str(newcomer.pk))
    jobs.send_mail_to_address.call("password_reset", newcomer.email)
    newcomer.delete()
    jobs.send_mail_to_user.call("verify_email", str(newcomer.pk or "01a1fe20-0000-7000-8000-000000000000"))
    assert mail.outbox == []


def test_who_is_verified_gets_no_mail_to_confirm(owner: User) -> None:
    jobs.send_mail_to_user.call("verify_email", str(owner.pk))
    jobs.send_mail_to_address.call("verify_email", owner.email)
    assert mail.outbox == []


def test_arguments_of_jobs_hold_no_link_and_no_token(newcomer: User) -> None:
    result = jobs.send_mail_to_user.enqueue("password_reset", str(newcomer.pk))
    assert result.args == ["password_reset", str(newcomer.pk)]
    (message,) = run_jobs()
    assert message.subject == "Choose a new password"


@pytest.mark.django_db(transaction=True)
def test_the_worker_sends_what_is_queued_once() -> None:
    user = UserFactory.create(email_verified_at=None)
    jobs.send_mail_to_user.enqueue("verify_email", str(user.pk))
    jobs.send_mail_to_address.enqueue("password_reset", user.email)
    for _round in range(2):
        Worker(once=True).run()
    assert sorted(message.subject for message in mail.outbox) == [
        "Choose a new password",
        "Confirm your e-mail address",
    ]


# --- not too many to one address --------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets time pass for the mails that were counted."""

    def let_pass(minutes: float) -> None:
        RequestedMail.objects.update(sent_at=F("sent_at") - timedelta(minutes=minutes))

    return let_pass


def request_mails(name: str, email: str, count: int) -> int:
    """Ask for the mail so many times; returns how many were sent."""
    for _time in range(count):
        jobs.send_mail_to_address.enqueue(name, email)
    return len(run_jobs())


def test_an_address_gets_at_most_five_mails_in_half_an_hour(clock: Any) -> None:
    user, other = UserFactory.create(), UserFactory.create()
    with capture_logs() as lines:
        assert request_mails("password_reset", user.email.upper(), 7) == 5
    withheld = [(line["mail"], line["user"]) for line in lines if line["event"] == "mail.withheld"]
    assert withheld == [("password_reset", str(user.pk))] * 2
    assert request_mails("password_reset", other.email, 1) == 1
    clock(29)
    assert request_mails("password_reset", user.email, 1) == 0
    clock(1)
    assert request_mails("password_reset", user.email, 1) == 1


def test_mails_of_all_kinds_count_together_and_the_last_one_is_kept_for_a_reset(clock: Any) -> None:
    user = UserFactory.create()
    assert request_mails("address_known", user.email, 6) == 4
    assert request_mails("password_reset", user.email, 2) == 1


def test_a_mail_that_was_needless_or_could_not_be_sent_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    user = UserFactory.create()
    assert request_mails("verify_email", user.email, 6) == 0  # the address is confirmed already
    with monkeypatch.context() as away:
        away.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", refuse)
        for _time in range(6):
            with pytest.raises(ConnectionRefusedError):
                jobs.send_mail_to_address.call("password_reset", user.email)
    assert request_mails("password_reset", user.email, 6) == 5


def refuse(*args: Any) -> None:
    raise ConnectionRefusedError


def test_an_unknown_address_leaves_nothing_and_old_counts_are_forgotten(clock: Any) -> None:
    user = UserFactory.create()
    assert request_mails("password_reset", "nobody@example.com", 1) == 0
    assert not RequestedMail.objects.exists()
    request_mails("password_reset", user.email, 2)
    clock(31)
    request_mails("password_reset", user.email, 1)
    retention.clean_up([retention.rules()["requested_mails"]])
    assert RequestedMail.objects.count() == 1
