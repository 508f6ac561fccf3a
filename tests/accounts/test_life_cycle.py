"""How an account ends: deactivated and back, planned and cancelled, erased; and that a superuser is left."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, BinaryIO

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, models, transaction
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from accounts import addresses, csv_files, identity, importing, invitations, jobs, life_cycle, services
from accounts.errors import AccountError
from accounts.models import (
    AddressChange,
    ErasedName,
    Import,
    Invitation,
    LoginAttempt,
    RequestedMail,
    ReservedUsername,
    User,
    UserState,
)
from auditlog import erasing
from auditlog.models import Record
from config.worker import Worker
from tests.accounts.conftest import jobs as waiting_jobs
from tests.accounts.conftest import link_in, run_jobs, sign_in
from tests.factories import PASSWORD, UserFactory
from tests.live import at_once

pytestmark = pytest.mark.django_db
TOMORROW = timedelta(days=1)


def fresh(user: User) -> User:
    return User.objects.get(pk=user.pk)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(AccountError) as refused:
        act()
    return refused.value.code


def mails_are_sent() -> None:
    DBTaskResult.objects.update(status="SUCCESSFUL")


def reasons(user: User) -> list[str | None]:
    records = Record.objects.filter(resource="accounts.user", object_id=user.pk, action="update")
    return list(records.order_by("id").values_list("reason", flat=True))


# --- deactivated and back ---------------------------------------------------------------------------


def test_a_deactivated_account_is_shut_and_comes_back_as_it_was(
    owner: User, owners_browser: Client, administrator: User
) -> None:
    assert life_cycle.deactivate(owner, acting_user=administrator)
    assert fresh(owner).state == UserState.DEACTIVATED
    assert sign_in(Client(), "owner").status_code == 422
    assert not life_cycle.deactivate(owner, acting_user=administrator)
    assert life_cycle.restore(owner, acting_user=administrator)
    assert not life_cycle.restore(owner, acting_user=administrator)
    assert sign_in(Client(), "owner").status_code == 302
    assert reasons(owner)[-2:] == ["deactivated", "restored"]
    # What was signed in before does not come back with the account.
    assert owners_browser.get("/accounts/profile/").status_code == 302


def test_nobody_does_it_to_themselves_nor_to_whom_they_may_not_edit(administrator: User, inviter: User) -> None:
    UserFactory.create(is_superuser=True)
    plan = partial(life_cycle.schedule_erasure, after=TOMORROW)
    for act in (life_cycle.deactivate, life_cycle.restore, plan, life_cycle.erase):
        assert refusal(partial(act, administrator, acting_user=administrator)) == "own_account"
        with pytest.raises(PermissionDenied):
            act(administrator, acting_user=inviter)
    with pytest.raises(PermissionDenied):
        life_cycle.cancel_erasure(administrator, acting_user=inviter)
    assert fresh(administrator).state == UserState.ACTIVE


# --- planned and cancelled --------------------------------------------------------------------------


def test_a_planned_erasure_shuts_the_account_and_mails_its_owner(owner: User, administrator: User) -> None:
    planned = life_cycle.schedule_erasure(owner, after=TOMORROW, acting_user=administrator)
    assert timedelta(hours=23) < planned - timezone.now() <= TOMORROW
    assert fresh(owner).state == UserState.SCHEDULED
    assert sign_in(Client(), "owner").status_code == 422
    (message,) = run_jobs()
    assert (message.to, message.subject) == (["owner@example.com"], "Your account will be erased")
    assert f"{planned:%B %Y, %H:%M}" in message.body
    life_cycle.cancel_erasure(owner, acting_user=administrator)
    assert sign_in(Client(), "owner").status_code == 302
    (message,) = run_jobs()
    assert (message.to, message.subject) == (["owner@example.com"], "Your account stays")
    assert reasons(owner)[-2:] == ["erasure planned", "erasure cancelled"]
    assert refusal(partial(life_cycle.cancel_erasure, owner, acting_user=administrator)) == "not_scheduled"


def test_only_whose_time_has_come_is_erased_and_by_the_worker(owner: User, colleague: User) -> None:
    life_cycle.schedule_erasure(owner, after=TOMORROW, acting_user=None)
    life_cycle.schedule_erasure(colleague, after=TOMORROW, acting_user=None)
    run_jobs()
    life_cycle.enqueue_what_is_due()
    assert waiting_jobs() == []
    User.objects.filter(pk=owner.pk).update(erase_at=timezone.now() - timedelta(seconds=1))
    life_cycle.enqueue_what_is_due()
    life_cycle.enqueue_what_is_due()
    assert waiting_jobs() == [("erase_due_accounts", [])]
    run_jobs()
    assert (fresh(owner).state, fresh(colleague).state) == (UserState.ERASED, UserState.SCHEDULED)


def test_without_a_grace_a_job_erases_at_once(owner: User, settings: Any) -> None:
    settings.ACCOUNT_DELETION_GRACE_DAYS = 0
    life_cycle.delete_own_account(owner)
    assert [name for name, _arguments in waiting_jobs()] == ["send_mail_to_user", "erase_due_accounts"]
    assert [message.subject for message in run_jobs()] == ["Your account will be erased"]
    assert fresh(owner).state == UserState.ERASED


def moved(user: User, from_email: str, *, undo_for: timedelta) -> AddressChange:
    now = timezone.now()
    made = AddressChange(user=user, old_email=from_email, new_email=user.email, state=AddressChange.State.CONFIRMED)
    made.confirmed_at, made.undo_until = now, now + undo_for
    made.save()
    return made


def test_nobody_deletes_what_its_owner_can_still_take_back(owner: User, owners_browser: Client, settings: Any) -> None:
    settings.ACCOUNT_DELETION_GRACE_DAYS = 0
    change = moved(owner, "victim@example.com", undo_for=timedelta(days=6, hours=1))
    assert "In 7 days, on" in owners_browser.get("/accounts/delete/").content.decode()
    planned = life_cycle.delete_own_account(owner)
    assert change.undo_until is not None and planned >= change.undo_until
    told = {message.to[0]: message for message in run_jobs()}
    assert set(told) == {"owner@example.com", "victim@example.com"}
    message = told["victim@example.com"]
    assert message.subject == "Your account will be erased"
    for text in (message.body, message.alternatives[0].content):
        assert f"will be erased on {planned.day} {planned:%B %Y, %H:%M} UTC" in text
        assert f"until {change.undo_until.day} {change.undo_until:%B %Y, %H:%M} UTC" in text
    assert addresses.undoable(link_in(message).rstrip("/").rpartition("/")[2]) == change
    assert fresh(owner).state == UserState.SCHEDULED


def test_a_change_that_is_over_puts_nothing_off_and_tells_nobody(owner: User) -> None:
    moved(owner, "former@example.com", undo_for=-TOMORROW)
    assert life_cycle.own_grace(owner) == timedelta(days=14)
    life_cycle.delete_own_account(owner)
    assert [message.to for message in run_jobs()] == [["owner@example.com"]]


def test_nobody_is_erased_before_the_mail_about_it_has_gone_out(owner: User, settings: Any) -> None:
    settings.ACCOUNT_DELETION_GRACE_DAYS = 0
    life_cycle.delete_own_account(owner)
    mail = DBTaskResult.objects.filter(args_kwargs__args__0="erasure_scheduled")
    for status in ("READY", "RUNNING", "FAILED"):
        mail.update(status=status)
        assert life_cycle.erase_due() == 0
    mail.update(status="SUCCESSFUL")
    assert life_cycle.erase_due() == 1
    assert fresh(owner).state == UserState.ERASED


def test_but_no_mail_server_puts_it_off_for_long(owner: User, colleague: User) -> None:
    for user in (owner, colleague):
        life_cycle.schedule_erasure(user, after=life_cycle.AT_ONCE, acting_user=None)
    owners_mail = DBTaskResult.objects.filter(args_kwargs__args__1=str(owner.pk))
    owners_mail.update(status="FAILED", enqueued_at=timezone.now() - timedelta(hours=2))
    assert life_cycle.erase_due() == 1
    assert (fresh(owner).state, fresh(colleague).state) == (UserState.ERASED, UserState.SCHEDULED)


def test_what_is_due_is_found_by_an_index() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "accounts_user_erase_at" in life_cycle.due().explain()


def test_one_who_cannot_be_erased_keeps_no_other_waiting(
    owner: User, colleague: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_for_owner(user: User) -> list[models.Model]:
        if user == owner:
            raise RuntimeError("an eraser that fails")
        return []

    monkeypatch.setitem(life_cycle._erasers, break_for_owner, None)
    for user in (owner, colleague):
        life_cycle.schedule_erasure(user, after=life_cycle.AT_ONCE, acting_user=None)
    mails_are_sent()
    with pytest.raises(RuntimeError):
        life_cycle.erase_due()
    assert (fresh(owner).state, fresh(colleague).state) == (UserState.SCHEDULED, UserState.ERASED)
    assert fresh(owner).username == "owner"


def test_who_is_kept_while_others_are_erased_stays(
    owner: User, colleague: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = UserFactory.create()
    for user in (owner, colleague, later):
        life_cycle.schedule_erasure(user, after=life_cycle.AT_ONCE, acting_user=None)
    mails_are_sent()

    def change_minds(user: User) -> list[models.Model]:
        assert user == owner  # the longest overdue
        life_cycle.cancel_erasure(colleague, acting_user=None)
        life_cycle.schedule_erasure(later, after=TOMORROW, acting_user=None)
        return []

    monkeypatch.setitem(life_cycle._erasers, change_minds, None)
    assert life_cycle.erase_due() == 1
    states = [fresh(user).state for user in (owner, colleague, later)]
    assert states == [UserState.ERASED, UserState.ACTIVE, UserState.SCHEDULED]


# --- erased -----------------------------------------------------------------------------------------

KEPT = {"id", "created_at", "updated_at", "version", "deleted_at", "password", "is_active"}


def test_a_tombstone_keeps_its_id_and_nothing_personal(owner: User, administrator: User) -> None:
    owner.bio, owner.avatar_url, owner.last_login = "I", "https://example.com/o.png", timezone.now()
    owner.signup_key, owner.is_staff = owner.pk, True
    owner.save()
    owner.groups.set(Group.objects.all())
    sign_in(Client(), "owner")
    assert life_cycle.erase(owner, acting_user=administrator)
    erased = fresh(owner)
    assert (str(erased), erased.get_full_name(), erased.state) == ("erased person", "erased person", UserState.ERASED)
    assert (erased.username, erased.email) == (f"erased:{owner.pk.hex}",) * 2
    assert (erased.has_usable_password(), erased.may_sign_in, erased.groups.count()) == (False, False, 0)
    for field in User._meta.concrete_fields:
        derived_from = getattr(field, "source", field.name)
        if derived_from not in {"username", "email"} | KEPT:
            assert getattr(erased, field.attname) == field.get_default(), field.name


def test_no_former_password_is_kept(owner: User, settings: Any) -> None:
    settings.PASSWORD_HISTORY = 2
    owner.set_password("Another-Horse-8-Battery")
    owner.save()
    assert owner.former_passwords.exists()
    life_cycle.erase(owner, acting_user=None)
    assert not owner.former_passwords.exists()


def test_erasing_is_for_good(owner: User, administrator: User) -> None:
    assert life_cycle.erase(owner, acting_user=administrator)
    before = User.objects.values().get(pk=owner.pk)
    assert life_cycle.erase(owner, acting_user=administrator) is False
    plan = partial(life_cycle.schedule_erasure, after=TOMORROW)
    for act in (life_cycle.restore, life_cycle.deactivate, plan, life_cycle.cancel_erasure):
        assert refusal(partial(act, owner, acting_user=administrator)) == "account_erased"
    edited = fresh(owner)
    edited.full_name = "Back Again"
    save = partial(services.save_user, edited, changed=["full_name"], acting_user=administrator)
    assert refusal(save) == "account_erased"
    for change in ({"deleted_at": None}, {"is_active": True}):
        with pytest.raises(IntegrityError, match="stays erased"), transaction.atomic():
            User.objects.filter(pk=owner.pk).update(**change)
    assert User.objects.values().get(pk=owner.pk) == before


def test_an_address_that_was_only_asked_for_stays_its_owners(owner: User, colleague: User, administrator: User) -> None:
    (invited,) = invitations.invite_addresses(["victim@corp.example"], invitations.Terms(), acting_user=administrator)
    run_jobs()
    for email in ("victim@corp.example", "colleague@example.com"):
        addresses.request_change(owner, email)
        run_jobs()
    jobs.send_mail_to_address.enqueue("password_reset", colleague.email)
    asked = list(AddressChange.objects.values_list("pk", flat=True))
    life_cycle.erase(owner, acting_user=None)
    invitation = Invitation.objects.get(pk=invited.pk)
    assert (invitation.email, invitation.state) == ("victim@corp.example", Invitation.State.OPEN)
    (record,) = Record.objects.filter(resource="accounts.invitation", action="create")
    assert record.object_label == "victim@corp.example"
    assert waiting_jobs() == [("send_mail_to_address", ["password_reset", "colleague@example.com"])]
    # What they asked for is gone all the same.
    assert not AddressChange.objects.exists() and not RequestedMail.objects.exists()
    about = Record.objects.filter(resource="accounts.addresschange", object_id__in=asked)
    assert about.exists() and set(about.values_list("object_label", flat=True)) == {None}


def test_an_address_that_was_confirmed_is_their_own_though_undone(owner: User, administrator: User) -> None:
    former = AddressChange.objects.create(
        user=owner, old_email=owner.email, new_email="former@example.com", state="undone", confirmed_at=timezone.now()
    )
    invitations.invite_addresses([former.new_email], invitations.Terms(), acting_user=administrator)
    life_cycle.erase(owner, acting_user=None)
    assert Invitation.objects.get().email == ""


def test_what_others_point_to_stays(owner: User) -> None:
    former = ReservedUsername.objects.create(
        username_canonical="x", username_skeleton="x", reserved_until=timezone.now()
    )
    LoginAttempt.objects.create(account=str(owner.pk), network="192.0.2.1")
    LoginAttempt.objects.create(account="name:owner", network="192.0.2.1")
    LoginAttempt.objects.create(account="name:other", network="192.0.2.1")
    life_cycle.erase(owner, acting_user=None)
    assert list(ReservedUsername.objects.all()) == [former]
    assert [attempt.account for attempt in LoginAttempt.objects.all()] == ["name:other"]


def test_an_app_joins_with_what_it_holds(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group.objects.create(name="friends of Olivia")

    def friends(user: User) -> list[models.Model]:
        assert user.username == "owner"
        Group.objects.filter(pk=group.pk).update(name="friends")
        return [group]

    monkeypatch.setitem(life_cycle._erasers, friends, None)
    life_cycle.erase(owner, acting_user=None)
    labels = Record.objects.filter(resource="auth.group", object_id=group.pk).values_list("object_label", flat=True)
    assert set(labels) == {None}


# --- imports ----------------------------------------------------------------------------------------

FRIENDS = [f"friend{number},friend{number}@example.org," for number in (1, 2)]


def upload(by: User, *rows: str) -> Import:
    content = "\n".join(["username,email,full_name", *rows]).encode()
    options = importing.Options(kind=Import.Kind.USERS)
    return importing.check_upload(content, "people.csv", options, most=10, acting_user=by)


def told_of(upload: Import) -> list[str]:
    return [verdict["who"] for verdict in upload.verdicts]


@pytest.mark.parametrize(
    "row", ["ｏｗｎｅｒ,other@example.org,", "other,Owner@EXAMPLE.com,", "1,2,3, OWNER@example.com"]
)
def test_a_file_with_the_person_is_not_written_and_says_why(owner: User, administrator: User, row: str) -> None:
    begun = upload(administrator, FRIENDS[0], row, FRIENDS[1])
    importing.start(begun.pk, acting_user=administrator)
    life_cycle.erase(owner, acting_user=None)
    begun.refresh_from_db()
    assert (begun.state, begun.code, bytes(begun.content)) == ("failed", "import_person_erased", b"")
    run_jobs()
    assert not User.objects.filter(username="friend1").exists()
    browser = Client()
    browser.force_login(administrator)
    page = browser.get(f"/admin/accounts/import/{begun.pk}/change/")
    assert "A person in this file was erased." in page.content.decode()


def test_a_file_of_others_is_left_alone(administrator: User) -> None:
    person = UserFactory.create(username="com", email="q@example.org")
    begun = upload(administrator, "zoe,zoe@nowhere.com,com", "com.com,zq@example.org,q@example.org")
    life_cycle.erase(person, acting_user=None)
    assert Import.objects.values().get(pk=begun.pk)["state"] == "checked"
    importing.start(begun.pk, acting_user=administrator)
    run_jobs()
    assert User.objects.filter(username__in=["zoe", "com.com"]).count() == 2


def test_an_import_that_is_being_written_stops(
    owner: User, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(importing.BATCH, Import.Kind.USERS, 1)
    begun = upload(administrator, FRIENDS[0], "other,owner@example.com,", FRIENDS[1])
    content = io.BytesIO(begun.content)
    importing.start(begun.pk, acting_user=administrator)
    writing = importing.write(begun, content, acting_user=administrator, keep_verdicts=True)
    next(writing)
    life_cycle.erase(owner, acting_user=None)
    assert refusal(partial(list, writing)) == "import_person_erased"
    assert set(User.objects.filter(email__contains="example.org").values_list("username", flat=True)) == {"friend1"}
    begun.refresh_from_db()
    assert (begun.state, begun.code, told_of(begun)) == ("failed", "import_person_erased", ["friend1"])


def test_what_was_said_of_the_person_goes_and_what_a_batch_adds_meanwhile_stays(
    owner: User, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = upload(administrator, "owner,owner@example.com,")
    look, written = csv_files.cells, [*begun.verdicts, begun.verdicts[0] | {"who": "friend1"}]

    def look_while_a_batch_is_written(file: BinaryIO) -> Iterator[tuple[str, str]]:
        Import.objects.filter(pk=begun.pk).update(verdicts=written)
        return look(file)

    monkeypatch.setattr(csv_files, "cells", look_while_a_batch_is_written)
    life_cycle.erase(owner, acting_user=None)
    begun.refresh_from_db()
    assert told_of(begun) == ["friend1"]


def test_nor_does_a_verdict_keep_the_beginning_of_a_long_address(administrator: User) -> None:
    person = UserFactory.create(email=f"{'Long' * 16}@{'domain' * 8}.example.org")
    rows = f"email\n{person.email}\nfriend@example.org\n".encode()
    options = importing.Options(kind=Import.Kind.INVITATIONS)
    begun = importing.check_upload(rows, "people.csv", options, most=10, acting_user=administrator)
    Import.objects.filter(pk=begun.pk).update(state="done", content=b"", ended_at=timezone.now())
    life_cycle.erase(person, acting_user=None)
    begun.refresh_from_db()
    assert (begun.state, told_of(begun)) == ("done", ["friend@example.org"])


# --- the name ---------------------------------------------------------------------------------------


def take_by_signup(name: str) -> object:
    return services.sign_up(services.SignUp(username=name, email="new@example.com", password=PASSWORD, browser="b"))


def take_by_adding(name: str) -> None:
    services.add_user(User(username=name, email="new@example.com"), acting_user=None)


def take_by_renaming(name: str) -> None:
    other = UserFactory.create(username="other")
    other.username = name
    services.save_user(other, changed=["username"], acting_user=other)


@pytest.mark.parametrize("take", [take_by_signup, take_by_adding, take_by_renaming])
@pytest.mark.parametrize("name", ["owner", "OWNER", "ｏｗｎｅｒ"])
def test_nobody_gets_the_name_by_a_service(owner: User, take: Callable[[str], object], name: str) -> None:
    life_cycle.erase(owner, acting_user=None)
    assert refusal(partial(take, name)) == "username_taken"


def test_the_database_refuses_the_name_from_every_writer(owner: User, colleague: User) -> None:
    life_cycle.erase(owner, acting_user=None)
    email = "new@example.com"
    colleague.username = "Owner"
    for write in (
        lambda: User(username="Owner", email=email).save(),
        lambda: User.objects.bulk_create([User(username="Owner", email=email)]),
        lambda: User.objects.create_user("Owner", email, PASSWORD),
        lambda: colleague.save(update_fields=["username"]),
    ):
        with pytest.raises(IntegrityError, match="erased"), transaction.atomic():
            write()
    stale = {"username": "owner", "username_source": "owner", "username_canonical": "owner", "username_skeleton": "o"}
    with pytest.raises(IntegrityError, match="digests were not"), transaction.atomic():
        User.objects.filter(pk=colleague.pk).update(**stale)


def test_former_names_that_were_not_free_yet_stay_reserved_too(owner: User) -> None:
    owner.username = "olivia"
    owner.save()
    life_cycle.erase(owner, acting_user=None)
    assert not ReservedUsername.objects.exists()
    for name in ("owner", "olivia"):
        assert refusal(partial(take_by_adding, name)) == "username_taken"


def test_the_name_stays_reserved_when_the_key_is_replaced(owner: User, settings: Any) -> None:
    life_cycle.erase(owner, acting_user=None)
    settings.NAME_HASH_KEY = "n" * 50
    assert refusal(partial(take_by_signup, "owner")) == "username_taken"
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "s" * 50
    assert refusal(partial(take_by_signup, "owner")) == "username_taken"


def test_a_lost_key_is_warned_of(owner: User, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    life_cycle.erase(owner, acting_user=None)
    call_command("check", "--database", "default")
    assert "accounts.W001" not in capsys.readouterr().err
    settings.SECRET_KEY = "s" * 50
    call_command("check", "--database", "default")
    told = capsys.readouterr().err
    assert "accounts.W001" in told and "NAME_HASH_KEY_FALLBACKS" in told


def test_the_digest_is_not_the_name_and_needs_the_key(owner: User, settings: Any) -> None:
    life_cycle.erase(owner, acting_user=None)
    (kept,) = ErasedName.objects.all()
    assert [kept.digest] == identity.name_digests("Owner").split()
    settings.SECRET_KEY = "s" * 50
    assert identity.name_digests("owner") != kept.digest


# --- a superuser is left ----------------------------------------------------------------------------


def demote(user: User) -> None:
    user.is_superuser = False
    services.save_user(user, changed=["is_superuser"], acting_user=user)


ENDS: dict[str, Callable[[User], object]] = {
    "deactivated": partial(life_cycle.deactivate, acting_user=None),
    "planned": partial(life_cycle.schedule_erasure, after=TOMORROW, acting_user=None),
    "deleted by themselves": life_cycle.delete_own_account,
    "erased": partial(life_cycle.erase, acting_user=None),
    "demoted": demote,
}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_superuser_stays_one_by_every_service(administrator: User, end: str) -> None:
    UserFactory.create(is_superuser=True, is_active=False)
    assert refusal(partial(ENDS[end], fresh(administrator))) == "last_superuser"
    assert (fresh(administrator).state, fresh(administrator).is_superuser) == (UserState.ACTIVE, True)
    UserFactory.create(is_superuser=True)
    ENDS[end](fresh(administrator))
    assert fresh(administrator).state != UserState.ACTIVE or not fresh(administrator).is_superuser


@pytest.mark.parametrize("change", [{"is_superuser": False}, {"is_active": False}, {"erase_at": timezone.now()}])
def test_and_by_no_other_writer(administrator: User, change: dict[str, Any]) -> None:
    UserFactory.create(is_superuser=True)
    with pytest.raises(IntegrityError, match="last active superuser"), transaction.atomic():
        User.objects.filter(is_superuser=True).update(**change)


def test_nor_is_the_last_one_deleted(administrator: User) -> None:
    other = UserFactory.create(is_superuser=True, is_active=False)
    for delete in (administrator.delete, User.objects.all().delete):
        with pytest.raises(IntegrityError, match="last active superuser"), transaction.atomic():
            delete()
    User.objects.filter(pk=other.pk).update(is_active=True)
    administrator.delete()
    assert list(User.objects.all()) == [other]


def in_a_thread(act: Callable[[], object]) -> str:
    """Run it in a thread of its own, so with a connection of its own; returns the code of its refusal, or nothing."""
    try:
        act()
    except AccountError as refused:
        return refused.code
    finally:
        connections.close_all()
    return ""


@pytest.mark.django_db(transaction=True)
def test_two_superusers_who_demote_each_other_at_once_leave_one() -> None:
    for number in range(5):
        User.objects.filter(is_superuser=False).delete()
        first, second = (UserFactory.create(username=f"{name}{number}", is_superuser=True) for name in ("a", "b"))
        User.objects.filter(is_superuser=True).exclude(pk__in=[first.pk, second.pk]).update(is_superuser=False)

        def by(acting_user: User, other: User) -> None:
            other.is_superuser = False
            services.save_user(other, changed=["is_superuser"], acting_user=acting_user)

        told = at_once([partial(in_a_thread, partial(by, *pair)) for pair in ((first, second), (second, first))])
        assert sorted(told) == ["", "last_superuser"]
        assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_several_workers_erase_each_person_once() -> None:
    people = UserFactory.create_batch(3)
    for person in people:
        life_cycle.schedule_erasure(person, after=life_cycle.AT_ONCE, acting_user=None)
    mails_are_sent()
    erased: list[int] = []

    def work() -> None:
        erased.append(life_cycle.erase_due())

    assert at_once([partial(in_a_thread, work)] * 3) == ["", "", ""]
    assert sum(erased) == 3
    assert Record.objects.filter(action="erase").count() >= 3
    for person in people:
        assert Record.objects.filter(action="erase", object_id=person.pk).count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_erasure_that_is_cut_off_has_erased_nothing_and_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    person = UserFactory.create(username="cut.off")
    life_cycle.schedule_erasure(person, after=life_cycle.AT_ONCE, acting_user=None)
    mails_are_sent()

    def die(*args: Any, **kwargs: Any) -> int:
        raise SystemExit  # as when the process ends: nothing after it runs

    with monkeypatch.context() as patch:
        patch.setattr(erasing, "erase", die)
        with pytest.raises(SystemExit):
            life_cycle.erase_due()
    assert (fresh(person).username, ErasedName.objects.count()) == ("cut.off", 0)
    DBTaskResult.objects.all().delete()
    life_cycle.enqueue_what_is_due()
    Worker(once=True).run()
    assert fresh(person).state == UserState.ERASED


def test_jobs_name_nobody_who_is_erased(owner: User) -> None:
    jobs.send_mail_to_address.enqueue("password_reset", "Owner@EXAMPLE.com")
    jobs.send_mail_to_address.enqueue("password_reset", "other@example.com")
    DBTaskResult.objects.update(traceback="SMTPRecipientsRefused: owner@example.com")
    life_cycle.erase(owner, acting_user=None)
    assert [arguments for _name, arguments in waiting_jobs()] == [
        ["password_reset", ""],
        ["password_reset", "other@example.com"],
    ]
    assert set(DBTaskResult.objects.values_list("traceback", flat=True)) == {""}
    assert run_jobs() == []


def test_jobs_do_not_tell_where_they_signed_in(owner: User, colleague: User) -> None:
    at = timezone.now().isoformat()
    for user in (owner, colleague):
        jobs.send_new_device.enqueue(str(user.pk), "Firefox on Linux", "203.0.113.77", at)
    DBTaskResult.objects.update(traceback="in a frame: 203.0.113.77")
    life_cycle.erase(owner, acting_user=None)
    assert [arguments for _name, arguments in waiting_jobs()] == [
        [str(owner.pk), "", "", at],
        [str(colleague.pk), "Firefox on Linux", "203.0.113.77", at],
    ]
    assert [job.traceback for job in DBTaskResult.objects.order_by("enqueued_at")] == ["", "in a frame: 203.0.113.77"]
    assert [message.to for message in run_jobs()] == [["colleague@example.com"]]
