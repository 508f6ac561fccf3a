"""Export, erase, verify: somebody who has done a lot is in no part of a full dump any more, and the seals hold."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.contrib.auth.models import Group
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from django_tasks_db.models import DBTaskResult

from accounts import importing, life_cycle, links
from accounts.models import (
    AddressChange,
    DataExport,
    Import,
    Invitation,
    LoginAttempt,
    RequestedMail,
    Session,
    User,
    UserState,
)
from accounts.second_factor.models import AuthenticatorApp
from accounts.session_engine import SessionStore
from auditlog import acting_as, sealing
from auditlog.models import Record
from config.worker import Worker
from healthcheck.models import Run
from tests.auditlog.storage.conftest import Trail
from tests.auditlog.storage.test_dump_and_restore import run
from tests.factories import PASSWORD, UserFactory

# What she is ever called, in any spelling, and where she sat. Nothing of it is to be found afterwards.
NAME, NEW_NAME, FULL_NAME = "Zenobia.Quill", "zenobia-septima", "Zenobia Q. Quill"
EMAIL, NEW_EMAIL = "Zenobia@first.example", "queen@palmyra.example"
HOME = "203.0.113.77"
PERSONAL = ("zenobia", "quill", "palmyra", "first.example", HOME)
WRONG = "Wrong-Password-1"
LIST = f"username,email\n{NEW_NAME},{NEW_EMAIL}\nfriend.of.hers,friend@palm.example"
OF_PEOPLE = importing.Options(kind=Import.Kind.USERS)


@pytest.fixture
def keeper(trail: Trail, settings: Any) -> Iterator[User]:
    settings.PASSWORD_HASHERS = project_settings.PASSWORD_HASHERS
    trail.tamper(
        "TRUNCATE accounts_user, accounts_invitation, accounts_erasedname, accounts_loginattempt,"
        " accounts_requestedmail, django_session, django_tasks_database_dbtaskresult, django_admin_log CASCADE"
    )
    yield UserFactory.create(username="keeper", is_staff=True, is_superuser=True)
    trail.tamper("TRUNCATE accounts_user, accounts_erasedname, django_tasks_database_dbtaskresult CASCADE")


def browser_of(user: User, address: str = "192.0.2.1") -> Client:
    browser = Client(REMOTE_ADDR=address)
    browser.force_login(user, "accounts.backends.IdentityBackend")
    return browser


def sign_in(browser: Client, name: str, password: str = PASSWORD) -> int:
    return browser.post("/accounts/login/", {"username": name, "password": password}).status_code


def work() -> None:
    Worker(once=True).run()


def live_a_life(keeper: User) -> User:
    """Invited, signed up, signed in, edited, renamed, moved, locked out, inviting others, with mails on their way."""
    keepers, at_home = browser_of(keeper), Client(REMOTE_ADDR=HOME)
    for name in (NAME, EMAIL):  # before there is such an account
        assert sign_in(at_home, name, WRONG) == 422
    invited = {"emails": EMAIL, "note": "Dear Zenobia", "roles": Group.objects.get(name="Support").pk, "days": "3"}
    assert keepers.post("/accounts/invitations/", invited).status_code == 303
    link = links.invitation_url(Invitation.objects.get(), mailed=True).removeprefix(project_settings.BASE_URL)
    at_home.get(link)
    form = {"username": NAME, "email": EMAIL, "full_name": FULL_NAME, "password": PASSWORD}
    assert at_home.post("/accounts/invitation/", form).status_code == 303
    her = User.objects.get(email=EMAIL)
    assert sign_in(at_home, NAME) == 302
    about = {
        "full_name": FULL_NAME,
        "bio": "I am Zenobia.",
        "avatar_url": "https://palmyra.example/z.png",
        "version": 1,
    }
    assert at_home.post("/accounts/profile/", about).status_code == 303
    friend = {"emails": "friend@example.com", "note": "Come, says Zenobia", "days": "3"}
    assert at_home.post("/accounts/invitations/", friend).status_code == 303
    assert sign_in(Client(REMOTE_ADDR=HOME), NAME, WRONG) == 422
    for name, email in ((NEW_NAME, EMAIL), (NEW_NAME, NEW_EMAIL)):
        edited = {"username": name, "email": email, "full_name": FULL_NAME, "is_active": "on", "is_staff": "on"}
        assert keepers.post(f"/admin/accounts/user/{her.pk}/change/", edited).status_code == 302
    keepers.get(f"/admin/accounts/user/{her.pk}/history/")
    keepers.get(f"/admin/auditlog/record/?q={NEW_NAME}")
    confirm = Client(REMOTE_ADDR=HOME)
    confirm.get(links.verify_email_url(her := User.objects.get(pk=her.pk)).removeprefix(project_settings.BASE_URL))
    assert confirm.post("/accounts/verify/").status_code == 303
    assert sign_in(at_home, NEW_EMAIL) == 302
    assert sign_in(Client(REMOTE_ADDR=HOME), NEW_EMAIL) == 302  # of which a mail tells, for it is a new browser
    assert sign_in(Client(REMOTE_ADDR=HOME), NEW_EMAIL, WRONG) == 422
    Client(REMOTE_ADDR=HOME).post("/accounts/password/reset/", {"email": NEW_EMAIL.upper()})
    moving = {"email": "zenobia@third.example", "password": PASSWORD}
    assert at_home.post("/accounts/email/", moving).status_code == 303
    with acting_as(her):
        for name in ("Zenobia’s old phone", "Zenobia’s phone"):
            app = AuthenticatorApp.objects.create(user=her, name=name, secret="x", last_step=0)
        AuthenticatorApp.objects.exclude(pk=app.pk).delete()
    assert at_home.post("/accounts/data/").status_code == 303
    importing.check_upload(LIST.encode(), "people.csv", OF_PEOPLE, most=100, acting_user=keeper)  # and never written
    done = importing.check_upload(f"{LIST}\n".encode(), "done.csv", OF_PEOPLE, most=100, acting_user=keeper)
    importing.start(done.pk, acting_user=keeper)
    work()
    assert (DataExport.objects.get().state, Import.objects.get(pk=done.pk).state) == ("ready", "done")
    Client(REMOTE_ADDR=HOME).post("/accounts/password/reset/", {"email": NEW_EMAIL})  # waits for the worker
    Run.objects.create(operation="optimize", asked_by_kind="user", asked_by_id=str(her.pk), asked_by_label=NEW_NAME)
    return User.objects.get(pk=her.pk)


def dump(trail: Trail) -> str:
    """All that the database holds, and what sessions and bytes hold inside."""
    text = run(trail.database, "pg_dump", "--dbname", trail.database.name)
    inside = [str(SessionStore().decode(session.data)) for session in Session.objects.all()]
    packed = re.findall(r"[A-Za-z0-9_+/-]{24,}", text)
    inside += [base64.urlsafe_b64decode(word[: len(word) // 4 * 4]).decode("latin-1") for word in packed]
    inside += [bytes.fromhex(word).decode("latin-1") for word in re.findall(r"\\\\x((?:[0-9a-f]{2})+)", text)]
    return "\n".join([text, *inside]).lower()


def found(text: str) -> set[str]:
    return {word for word in PERSONAL if word in text}


def test_of_an_erased_person_no_dump_holds_anything_and_the_seals_hold(
    trail: Trail, keeper: User, tmp_path: Path
) -> None:
    her = live_a_life(keeper)
    sealing.seal()
    export = tmp_path / "trail.jsonl"
    call_command("audit", "export", "--format", "jsonl", "--output", str(export), stdout=io.StringIO())
    assert found(export.read_text().lower()) == set(PERSONAL)
    assert found(dump(trail)) == set(PERSONAL)

    owners = browser_of(her, HOME)
    assert owners.post("/accounts/delete/", {"password": PASSWORD}).status_code == 303
    User.objects.filter(pk=her.pk).update(erase_at=her.created_at)  # the days have passed
    work()
    assert User.objects.get(pk=her.pk).state == UserState.ERASED

    left = dump(trail)
    assert [left[left.index(word) - 300 : left.index(word) + 80] for word in found(left)] == []
    report = trail.verify()
    assert (report.ok, report.findings) == (True, [])
    assert report.erased > 10
    sealing.seal()
    assert trail.verify().ok
    # What happened, when, and to which id: all of it is still there.
    hers = Record.objects.filter(actor_id=str(her.pk))
    assert hers.filter(action="login").exists() and set(hers.values_list("actor_label", flat=True)) == {None}
    assert Record.objects.get(resource="accounts.user", object_id=her.pk, action="create").new
    friend = Invitation.objects.get(email="friend@example.com")
    assert (friend.invited_by_id, friend.invited_by_name) == (her.pk, "erased person")
    assert Record.objects.get(resource="accounts.user", object_id=keeper.pk, action="create").object_label == "keeper"
    for kept in (LoginAttempt, DataExport, AddressChange, AuthenticatorApp):
        assert not kept.objects.exists()
    assert not Session.objects.filter(user=her).exists()
    imports = Import.objects.order_by("created_at").values_list("state", "code")
    assert list(imports) == [("failed", "import_person_erased"), ("done", "")]
    for each in Import.objects.all():
        assert ([row["who"] for row in each.verdicts], bytes(each.content)) == (["friend.of.hers"], b"")
    assert [str(asked) for asked in RequestedMail.objects.all()] == ["friend@example.com"]
    mail.outbox.clear()
    work()
    assert mail.outbox == []
    assert not DBTaskResult.objects.filter(status="READY").exists()

    assert_nobody_gets(NEW_NAME, keeper)
    assert_nobody_gets(NAME, keeper)


def assert_nobody_gets(name: str, keeper: User) -> None:
    taken = "already taken"
    form = {"username": name.upper(), "email": "thief@example.com", "password": PASSWORD}
    signed_up = Client().post("/accounts/signup/", form)
    assert (signed_up.status_code, taken in signed_up.content.decode()) == (422, True)
    added = browser_of(keeper).post("/admin/accounts/user/add/", {**form, "is_active": "on"})
    assert (added.status_code, taken in added.content.decode()) == (200, True)
    with pytest.raises(CommandError, match=taken):
        call_command("create_user", name, "thief@example.com")
    renamed = {"username": name, "email": keeper.email, "full_name": ""}
    answer = browser_of(keeper).post(f"/admin/accounts/user/{keeper.pk}/change/", renamed)
    assert (answer.status_code, taken in answer.content.decode()) == (200, True)
    assert not User.objects.filter(email="thief@example.com").exists()
    assert life_cycle.due().count() == 0
