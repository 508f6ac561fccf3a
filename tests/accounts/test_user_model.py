"""What the database itself refuses and keeps, whichever way a row is written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.utils import timezone

from accounts import identity, services
from accounts.errors import AccountError
from accounts.models import ReservedUsername, User, new_id
from tests.accounts.conftest import sign_in
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

# Each pair is one username to the database.
TWINS = [
    ("jane", "jane", "accounts_user_username"),
    ("jane", "JANE", "accounts_user_username"),
    ("jane", "ｊａｎｅ", "accounts_user_username"),
    ("straße", "STRASSE", "accounts_user_username"),
    ("kelvin", "\u212aelvin", "accounts_user_username"),
    ("josé", "jose\u0301", "accounts_user_username"),
    ("cocoa", "сосоа", "accounts_user_look_alike"),
    ("paypal", "PayPaI", "accounts_user_look_alike"),
    ("modern", "modem", "accounts_user_look_alike"),
    ("ilker", "ılker", "accounts_user_look_alike"),
]
UPSERT = """
    INSERT INTO accounts_user (id, username, email, password, is_superuser, is_staff, is_active, full_name, bio,
        avatar_url, login_count, created_at, updated_at, version, look_alike_approved
        {columns}) VALUES (gen_random_uuid(), 'raw', 'raw@example.com', '', false, false, true, '', '', '', 0,
        now(), now(), 1, false {values})
"""


def newcomer(username: str, email: str = "newcomer@example.com", **more: Any) -> User:
    return User(username=username, email=email, password="!", **more)


def fixture_file(directory: Path, user: User) -> str:
    """Write `user` as ``dumpdata`` would."""
    from django.core import serializers

    path = directory / "users.json"
    path.write_text(serializers.serialize("json", [user]))
    return str(path)


def constraint_of(error: BaseException | None) -> str:
    cause = error.__cause__ if error else None
    assert isinstance(cause, psycopg2.Error)
    return str(cause.diag.constraint_name)


def refused_by(write: Callable[[], object]) -> str:
    """Return the name of the constraint that refuses `write`."""
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        write()
    return constraint_of(refused.value)


@pytest.mark.parametrize(("existing", "twin", "constraint"), TWINS)
def test_a_twin_is_refused_however_it_is_inserted(
    existing: str, twin: str, constraint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    UserFactory.create(username=existing, email="first@example.com")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    email = "newcomer@example.com"
    writes: list[Callable[[], object]] = [
        lambda: newcomer(twin).save(),
        lambda: User.objects.create(username=twin, email=email),
        lambda: User.objects.bulk_create([newcomer(twin)]),
        lambda: User.objects.get_or_create(email=email, defaults={"username": twin}),
        lambda: User.objects.update_or_create(email=email, defaults={"username": twin}),
        lambda: User.objects.create_user(twin, email, PASSWORD),
        lambda: call_command("createsuperuser", interactive=False, username=twin, email=email),
    ]
    assert [refused_by(write) for write in writes] == [constraint] * len(writes)
    assert User.objects.count() == 1


@pytest.mark.parametrize(("existing", "twin", "constraint"), TWINS)
def test_a_twin_is_refused_however_a_row_is_changed(existing: str, twin: str, constraint: str, colleague: User) -> None:
    UserFactory.create(username=existing, email="first@example.com")
    colleague.username = twin
    assert refused_by(colleague.save) == constraint
    assert refused_by(lambda: colleague.save(update_fields=["username"])) == constraint
    assert (
        refused_by(
            lambda: User.objects.bulk_create(
                [colleague],
                update_conflicts=True,
                unique_fields=["id"],
                update_fields=["username", "username_source", "username_canonical", "username_skeleton"],
            )
        )
        == constraint
    )


def test_two_twins_in_one_bulk_create_are_refused_together() -> None:
    twins = [newcomer("jane", "a@example.com"), newcomer("JANE", "b@example.com")]
    assert refused_by(lambda: User.objects.bulk_create(twins)) == "accounts_user_username"
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("existing", "twin"),
    [
        ("jane@example.com", "JANE@EXAMPLE.COM"),
        ("jane@bücher.de", "Jane@xn--bcher-kva.de"),
        ("jane@example.com", "jane@ＥＸＡＭＰＬＥ.com"),
    ],
)
def test_an_address_belongs_to_one_account(existing: str, twin: str) -> None:
    UserFactory.create(email=existing)
    assert refused_by(newcomer("newcomer", twin).save) == "accounts_user_email"
    assert refused_by(lambda: User.objects.bulk_create([newcomer("newcomer", twin)])) == "accounts_user_email"


def test_the_same_words_with_other_dots_or_plus_are_other_addresses() -> None:
    for number, email in enumerate(["jane.doe@example.com", "janedoe@example.com", "janedoe+x@example.com"]):
        newcomer(f"jane{number}00", email).save()
    assert User.objects.count() == 3


def test_writes_that_pass_the_derivation_by_are_refused_as_stale(owner: User, colleague: User) -> None:
    users = User.objects.filter(pk=colleague.pk)
    colleague.username, colleague.email = "renamed", "renamed@example.com"
    assert [
        refused_by(lambda: users.update(username="renamed")),
        refused_by(lambda: users.update(username="OWNER")),
        refused_by(lambda: users.update(email="renamed@example.com")),
        refused_by(lambda: User.objects.bulk_update([colleague], ["username"])),
        refused_by(lambda: User.objects.bulk_update([colleague], ["email"])),
    ] == [
        "accounts_user_username_not_stale",
        "accounts_user_username_not_stale",
        "accounts_user_email_not_stale",
        "accounts_user_username_not_stale",
        "accounts_user_email_not_stale",
    ]


def test_raw_sql_without_canonical_columns_is_refused() -> None:
    def insert(columns: str = "", values: str = "") -> Callable[[], object]:
        def run() -> None:
            with connection.cursor() as cursor:
                cursor.execute(UPSERT.format(columns=columns, values=values))

        return run

    with pytest.raises(IntegrityError, match="null value in column"), transaction.atomic():
        insert()()
    derived = ", username_source, username_canonical, username_skeleton, email_source, email_canonical"
    assert refused_by(insert(derived, ", 'raw', '', 'raw', 'raw@example.com', 'raw@example.com'")) == (
        "accounts_user_identity_not_empty"
    )
    assert refused_by(insert(derived, ", 'other', 'raw', 'raw', 'raw@example.com', 'raw@example.com'")) == (
        "accounts_user_username_not_stale"
    )


def test_a_fixture_is_loaded_as_it_was_dumped_and_refused_when_it_is_a_twin(tmp_path: Path, owner: User) -> None:
    path = fixture_file(tmp_path, owner)
    User.objects.all().delete()
    call_command("loaddata", path, verbosity=0)
    loaded = User.objects.get()
    assert (loaded.pk, loaded.username_canonical, loaded.check_password(PASSWORD)) == (owner.pk, "owner", True)
    (row,) = json.loads(Path(path).read_text())
    row["pk"] = str(new_id())
    Path(path).write_text(json.dumps([row]))
    with pytest.raises(IntegrityError, match="accounts_user_username"), transaction.atomic():
        call_command("loaddata", path, verbosity=0)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"username": "renamed"}, "accounts_user_username_not_stale"),
        ({"username_canonical": ""}, "accounts_user_identity_not_empty"),
        ({"email_canonical": ""}, "accounts_user_identity_not_empty"),
    ],
)
def test_a_fixture_with_stale_or_missing_canonical_columns_is_refused(
    tmp_path: Path, owner: User, change: dict[str, str], constraint: str
) -> None:
    path = fixture_file(tmp_path, owner)
    (row,) = json.loads(Path(path).read_text())
    row["fields"] |= change
    Path(path).write_text(json.dumps([row]))
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        call_command("loaddata", path, verbosity=0)


def test_a_name_without_any_letter_is_refused_by_the_database() -> None:
    assert refused_by(newcomer("").save) == "accounts_user_identity_not_empty"


def test_an_approved_look_alike_is_admitted_but_no_twin() -> None:
    UserFactory.create(username="cocoa")
    newcomer("сосоа", look_alike_approved=True).save()
    assert refused_by(newcomer("COCOA", "c@example.com", look_alike_approved=True).save) == "accounts_user_username"
    assert refused_by(newcomer("сoсоа", "d@example.com").save) == "accounts_user_look_alike"


def test_what_was_typed_is_kept_for_display_and_the_rest_is_derived() -> None:
    user = User.objects.create_user(" ＪaneDoe ", "Jane@BÜCHER.de ", PASSWORD)
    user.refresh_from_db()
    assert (user.username, user.username_canonical, user.username_skeleton) == ("ＪaneDoe", "janedoe", "janedoe")
    assert (user.email, user.email_canonical) == ("Jane@BÜCHER.de", "jane@xn--bcher-kva.de")


def test_saving_only_the_username_carries_its_derived_columns(owner: User) -> None:
    owner.username, owner.email = "Renamed", "unsaved@example.com"
    owner.save(update_fields=["username"])
    owner.refresh_from_db()
    derived = (owner.username_source, owner.username_canonical, owner.username_skeleton)
    assert derived == ("Renamed", "renamed", "renarned")
    assert (owner.email, owner.email_source) == ("owner@example.com", "owner@example.com")


def test_create_user_validates_shapes() -> None:
    for username, email in (("ab", "jane@example.com"), ("jane", "nonsense"), ("admin", "jane@example.com")):
        with pytest.raises(ValidationError):
            User.objects.create_user(username, email, PASSWORD)
    assert not User.objects.exists()


def test_a_superuser_by_command_may_sign_in_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, username="keeper", email="keeper@example.com", verbosity=0)
    user = User.objects.get()
    assert (user.is_staff, user.is_superuser, user.may_sign_in) == (True, True, True)


def test_createsuperuser_explains_a_bad_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    with pytest.raises(CommandError, match="letters, digits, dots"):
        call_command("createsuperuser", interactive=False, username="a b c", email="keeper@example.com")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("owner", True),
        ("OWNER", True),
        ("ｏｗｎｅｒ", True),
        ("Owner@EXAMPLE.com", True),
        ("owner@example.com", True),
        ("owner@", False),
        ("own", False),
        ("", False),
        ("nobody@example.com", False),
    ],
)
def test_people_are_found_by_any_spelling_of_name_or_address(owner: User, name: str, found: bool) -> None:
    assert User.objects.by_login_name(name) == (owner if found else None)


def test_the_natural_key_is_the_canonical_name(owner: User) -> None:
    assert User.objects.get_by_natural_key("OWNER") == owner


def test_the_id_is_a_uuid7_in_the_order_of_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = []
    for _number in range(3):
        ids.append(new_id())
        time.sleep(0.002)
    after = time.time_ns() // 1_000_000
    assert ids == sorted(ids)
    assert [(each.version, each.variant) for each in ids] == [(7, "specified in RFC 4122")] * 3
    assert all(before <= each.int >> 80 <= after for each in ids)
    assert len({new_id() for _number in range(1000)}) == 1000


# --- version and time -------------------------------------------------------------------------------


def version_and_time(user: User) -> tuple[int, Any]:
    return User.objects.values_list("version", "updated_at").get(pk=user.pk)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda user: user.save(), id="save"),
        pytest.param(lambda user: user.save(update_fields=["full_name"]), id="update_fields"),
        pytest.param(lambda user: User.objects.filter(pk=user.pk).update(full_name="New"), id="update"),
        pytest.param(lambda user: User.objects.bulk_update([user], ["full_name"]), id="bulk_update"),
    ],
)
def test_an_edit_by_any_path_counts_the_version_up_and_moves_the_time(
    owner: User, edit: Callable[[User], object]
) -> None:
    version, updated = version_and_time(owner)
    owner.full_name = "New"
    edit(owner)
    assert version_and_time(owner)[0] == version + 1
    assert version_and_time(owner)[1] > updated


@pytest.mark.parametrize(
    "change",
    [
        {"last_login": datetime(2026, 1, 1, tzinfo=UTC)},
        {"login_count": 7},
        {"password": "!"},
        {"full_name": "Olivia Owner"},
        {"version": 9, "updated_at": datetime(2001, 1, 1, tzinfo=UTC)},
    ],
    ids=["last login", "login count", "hash", "same value", "version and time"],
)
def test_a_login_a_rehash_and_a_change_of_nothing_are_no_edit(owner: User, change: dict[str, Any]) -> None:
    before = version_and_time(owner)
    User.objects.filter(pk=owner.pk).update(**change)
    assert version_and_time(owner) == before


def test_saving_a_stale_object_again_does_not_turn_the_version_back(owner: User) -> None:
    version, _updated = version_and_time(owner)
    owner.full_name = "Somebody Else"
    owner.save()
    owner.save()  # its version in memory is the old one
    assert version_and_time(owner)[0] == version + 1


def test_nobody_can_set_version_and_time_by_an_edit(owner: User) -> None:
    version, _updated = version_and_time(owner)
    future = timezone.now() + timedelta(days=1)
    User.objects.filter(pk=owner.pk).update(full_name="New", version=99, updated_at=future)
    assert version_and_time(owner)[0] == version + 1
    assert version_and_time(owner)[1] < future


def test_signing_in_is_no_edit(owner: User, client: Any) -> None:
    before = version_and_time(owner)
    assert sign_in(client, "owner").status_code == 302
    assert version_and_time(owner) == before


# --- former names -----------------------------------------------------------------------------------


def rename_by_save(user: User) -> None:
    user.username = "renamed"
    user.save()


def rename_by_update_fields(user: User) -> None:
    user.username = "renamed"
    user.save(update_fields=["username"])


def rename_by_update(user: User) -> None:
    User.objects.filter(pk=user.pk).update(
        username="renamed",
        username_source="renamed",
        username_canonical="renamed",
        username_skeleton="renarned",
        username_digests=identity.name_digests("renamed"),
    )


def rename_by_raw_sql(user: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_user SET username = 'renamed', username_source = 'renamed',"
            " username_canonical = 'renamed', username_skeleton = 'renarned', username_digests = %s WHERE id = %s",
            [identity.name_digests("renamed"), user.pk],
        )


def rename_by_service(user: User) -> None:
    user.username = "renamed"
    services.save_user(user, changed=["username"], acting_user=user)


RENAMES = [rename_by_save, rename_by_update_fields, rename_by_update, rename_by_raw_sql, rename_by_service]


@pytest.mark.parametrize("rename", RENAMES)
def test_a_name_that_was_given_up_by_any_path_is_kept_from_others(
    owner: User, colleague: User, rename: Callable[[User], None]
) -> None:
    rename(owner)
    assert refused_by(newcomer("OWNER").save) == "accounts_user_reserved_username"
    colleague.username = "owner"
    assert refused_by(colleague.save) == "accounts_user_reserved_username"
    (former,) = ReservedUsername.objects.all()
    assert (former.username_canonical, former.holder) == ("owner", owner)
    assert timedelta(days=89) < former.reserved_until - timezone.now() <= timedelta(days=90)


def test_it_is_kept_from_many_who_come_at_once_too(owner: User) -> None:
    rename_by_save(owner)
    others = [newcomer(f"other{number}", f"other{number}@example.com") for number in range(3)]
    reserved = [*others, newcomer("owner")]
    assert refused_by(lambda: User.objects.bulk_create(reserved)) == "accounts_user_reserved_username"
    assert User.objects.bulk_create(others) == others


def test_its_holder_may_take_it_back(owner: User) -> None:
    rename_by_save(owner)
    owner.username = "Owner"
    owner.save()
    assert User.objects.get().username_canonical == "owner"


def test_it_is_free_after_the_time(owner: User) -> None:
    rename_by_save(owner)
    ReservedUsername.objects.update(reserved_until=timezone.now() - timedelta(seconds=1))
    newcomer("owner").save()
    assert User.objects.filter(username_canonical="owner").exists()


def test_it_stays_reserved_when_its_holder_is_deleted(owner: User) -> None:
    rename_by_save(owner)
    owner.delete()
    assert refused_by(newcomer("owner").save) == "accounts_user_reserved_username"


def test_another_spelling_of_the_same_name_is_no_rename(owner: User) -> None:
    owner.username = "OWNER"
    owner.save()
    assert not ReservedUsername.objects.exists()


@pytest.mark.parametrize("days", [0, 1, 400])
def test_the_time_of_reservation_is_a_setting(owner: User, settings: Any, days: int) -> None:
    settings.NAME_RESERVED_DAYS = days
    rename_by_service(owner)
    left = ReservedUsername.objects.get().reserved_until - timezone.now()
    assert timedelta(days=days, minutes=-1) < left <= timedelta(days=days)


def test_with_no_days_the_name_is_free_at_once(owner: User, settings: Any) -> None:
    settings.NAME_RESERVED_DAYS = 0
    rename_by_service(owner)
    newcomer("owner").save()
    assert User.objects.filter(username="owner").exists()


def test_the_service_explains_a_reserved_name(owner: User, colleague: User) -> None:
    rename_by_save(owner)
    colleague.username = "Owner"
    with pytest.raises(AccountError) as refused:
        services.save_user(colleague, changed=["username"], acting_user=owner)
    assert (refused.value.code, refused.value.field) == ("username_retired", "username")


# --- what it tells about itself, and what the runtime role may do ------------------------------------


def test_the_repr_is_useful_and_leaks_nothing(owner: User) -> None:
    assert repr(owner) == f"<User {owner.pk} 'owner'>"
    assert str(owner) == "owner"
    assert (repr(User(username="a\nb"))).endswith(r"'a\nb'>")


@pytest.mark.parametrize(
    ("username", "full_name", "initials"),
    [
        ("jane", "", "J"),
        ("jane.doe", "", "JD"),
        ("jane", "Jane van der Doe", "JD"),
        ("jane", "élise", "É"),
        ("...", "", ""),
    ],
)
def test_initials_stand_for_the_picture(username: str, full_name: str, initials: str) -> None:
    assert User(username=username, full_name=full_name).initials == initials


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE accounts_user CASCADE",
        "ALTER TABLE accounts_user DISABLE TRIGGER ALL",
        "ALTER TABLE accounts_user DROP CONSTRAINT accounts_user_username_not_stale",
        "DROP TABLE accounts_user CASCADE",
        "DROP INDEX accounts_user_username",
        "CREATE TABLE mine (id int)",
        "SET session_replication_role = replica",
    ],
)
def test_the_runtime_role_can_neither_empty_nor_alter_the_table(owner: User, statement: str) -> None:
    with pytest.raises(ProgrammingError) as refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert isinstance(refused.value.__cause__, psycopg2.errors.InsufficientPrivilege)
    assert User.objects.get() == owner
