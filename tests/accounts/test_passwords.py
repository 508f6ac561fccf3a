"""The password policies, who cannot get round them, and what becomes of hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.contrib.auth.hashers import identify_hasher, make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from tests.accounts.conftest import sign_in
from tests.factories import PASSWORD, UserFactory

HASHERS = {
    "bcrypt": "bcrypt_sha256",
    "argon2id": "argon2",
    "scrypt": "scrypt",
}


@cache
def setting(name: str, **environment: str) -> Any:
    """Return a setting as a process with these variables would have it."""
    program = f"import json; from django.conf import settings; print(json.dumps(settings.{name}))"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project_settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def nist_validators() -> Any:
    return setting("AUTH_PASSWORD_VALIDATORS", PASSWORD_POLICY="nist")


@pytest.fixture
def nist(settings: Any, nist_validators: Any) -> None:
    """The other policy."""
    settings.AUTH_PASSWORD_VALIDATORS = nist_validators


def refusals(password: str, user: User | None = None) -> list[str]:
    try:
        validate_password(password, user)
    except ValidationError as error:
        return [str(one.code) for one in error.error_list]
    return []


# --- the rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (PASSWORD, []),
        ("Abcdefgh-12", ["password_too_short"]),
        ("Abcdefgh-123", []),
        ("ABCDEFGH-1234", ["password_no_lowercase"]),
        ("abcdefgh-1234", ["password_no_uppercase"]),
        ("Abcdefgh-jklm", ["password_no_digit"]),
        ("Abcdefgh12345", ["password_no_symbol"]),
        ("Abcdefgh 12-34", ["password_white_space"]),
        (" Abcdefgh-1234", ["password_white_space"]),
        ("Abcdefgh-1234\u00a0", ["password_white_space"]),
        ("Straße-Nr-12345", []),
        ("Ünï-cödé-12345", []),
        ("Abcdefgh-١٢٣٤", []),  # digits of another script
    ],
)
def test_each_rule_of_the_composition_policy(password: str, expected: list[str]) -> None:
    assert refusals(password) == expected


def test_all_broken_rules_are_told_together() -> None:
    assert refusals("") == [
        "password_too_short",
        "password_no_lowercase",
        "password_no_uppercase",
        "password_no_digit",
        "password_no_symbol",
    ]
    assert refusals("password") == [
        "password_too_short",
        "password_no_uppercase",
        "password_no_digit",
        "password_no_symbol",
        "password_too_common",
    ]
    assert refusals(" \0", User(username="jane")) == [
        "password_too_short",
        "password_unstorable",
        "password_no_lowercase",
        "password_no_uppercase",
        "password_no_digit",
        "password_white_space",
    ]


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("correcthorsebat", []),
        ("correct horse b", []),
        ("               ", []),  # only length counts; nobody is made to choose it
        ("correcthorseba", ["password_too_short"]),
        ("password", ["password_too_short", "password_too_common"]),
        ("jane.doe@example.com", ["password_too_similar"]),
        ("correcthorsebat\0", ["password_unstorable"]),
        ("a" * 1025, ["password_too_long"]),
    ],
)
@pytest.mark.usefixtures("nist")
def test_the_nist_policy_asks_for_length_only(password: str, expected: list[str]) -> None:
    assert refusals(password, User(username="someone", email="jane.doe@example.com")) == expected


@pytest.mark.parametrize(
    "user",
    [
        User(username="Annabelle-Lee-1"),
        User(username="x", email="annabelle-lee@example.com"),
        User(username="x", full_name="Annabelle Lee"),
    ],
    ids=["username", "address", "full name"],
)
def test_a_password_like_the_own_name_or_address_is_refused(user: User) -> None:
    assert refusals("Annabelle-Lee-1", user) == ["password_too_similar"]
    assert refusals("Annabelle-Lee-1") == []


@pytest.mark.parametrize("length", [64, 72, 73, 128, 1024])
def test_long_passwords_are_accepted(length: int) -> None:
    assert refusals("Aa1-" + "x" * (length - 4)) == []


def test_the_limit_is_1024_bytes_and_not_characters() -> None:
    assert refusals("Aa1-" + "x" * 1020) == []
    assert refusals("Aa1-" + "x" * 1021) == ["password_too_long"]
    assert refusals("Aa1-" + "ü" * 510) == []
    assert refusals("Aa1-" + "ü" * 511) == ["password_too_long"]


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_what_cannot_be_stored_or_typed_is_refused(character: str) -> None:
    assert refusals(PASSWORD + character) == ["password_unstorable"]


# --- nobody gets round them -------------------------------------------------------------------------


@pytest.mark.django_db
def test_set_password_applies_the_policy_and_leaves_the_old_password(owner: User) -> None:
    before = owner.password
    with pytest.raises(ValidationError):
        owner.set_password("weak")
    assert owner.password == before


@pytest.mark.django_db
def test_create_user_applies_the_policy_with_the_users_own_data() -> None:
    with pytest.raises(ValidationError) as refused:
        User.objects.create_user("annabelle", "x@example.com", "Annabelle-1!")
    assert [error.code for error in refused.value.error_list] == ["password_too_similar"]
    with pytest.raises(ValidationError):
        User.objects.create_superuser("annabelle", "x@example.com", "weak")
    assert not User.objects.exists()


@pytest.mark.django_db
def test_createsuperuser_applies_the_policy_without_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "weak")
    with pytest.raises(CommandError, match="Use at least 12 characters"):
        call_command("createsuperuser", interactive=False, username="keeper", email="keeper@example.com")
    assert not User.objects.exists()


@pytest.mark.django_db
def test_no_password_is_one_that_nobody_can_sign_in_with() -> None:
    user = User.objects.create_user("jane", "jane@example.com")
    assert not user.has_usable_password()
    assert not user.check_password("")


# --- verified exactly as typed ----------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("nist")
@pytest.mark.parametrize(
    "variant",
    [
        "correct horse battery",
        " correct horse battery",
        "correct horse battery ",
        "Correct horse battery",
        "correct  horse battery",
        "correct horse battery\n",
        "correct horse b\u0430ttery",
    ],
)
def test_spaces_and_case_of_a_password_matter_at_the_login_page(owner: User, client: Client, variant: str) -> None:
    owner.set_password(" correct horse battery")
    owner.save()
    status = 302 if variant == " correct horse battery" else 422
    assert sign_in(client, "owner", variant).status_code == status


@pytest.mark.parametrize("name", HASHERS)
def test_nothing_is_cut_at_72_bytes(settings: Any, name: str) -> None:
    settings.PASSWORD_HASHERS = setting("PASSWORD_HASHERS", PASSWORD_HASHER=name)
    first, other = "Aa1-" + "x" * 70 + "one", "Aa1-" + "x" * 70 + "two"
    user = User(username="jane")
    user.set_password(first)
    assert identify_hasher(user.password).algorithm == HASHERS[name]
    assert user.check_password(first)
    assert not user.check_password(other)


@pytest.mark.parametrize("password", ["Aa1-" + "x" * 1020, "Aa1-" + "ü" * 510, "Straße-Nr-12345"])
def test_a_long_password_is_verified(password: str) -> None:
    user = User(username="jane")
    user.set_password(password)
    assert user.check_password(password)
    assert not user.check_password(password[:-1])


# --- hashes -----------------------------------------------------------------------------------------


def test_bcrypt_at_the_configured_work_factor_is_the_default() -> None:
    assert int(os.environ["BCRYPT_ROUNDS"]) == project_settings.BCRYPT_ROUNDS
    assert f"$2b${project_settings.BCRYPT_ROUNDS:02}$" in make_password("any")
    assert setting("BCRYPT_ROUNDS", BCRYPT_ROUNDS="") == 12


@pytest.mark.django_db
@pytest.mark.parametrize("name", HASHERS)
def test_a_login_replaces_an_old_hash_by_the_configured_kind(settings: Any, client: Client, name: str) -> None:
    olds = [algorithm for kind, algorithm in HASHERS.items() if kind != name]
    people = [UserFactory.create(username=f"old-{old}") for old in olds]
    for user, old in zip(people, olds, strict=True):
        User.objects.filter(pk=user.pk).update(password=make_password(PASSWORD, hasher=old))
    settings.PASSWORD_HASHERS = setting("PASSWORD_HASHERS", PASSWORD_HASHER=name)
    for user in people:
        assert sign_in(client, user.username).status_code == 302
        user.refresh_from_db()
        assert identify_hasher(user.password).algorithm == HASHERS[name]
        assert user.check_password(PASSWORD)
        client.logout()


@pytest.mark.django_db
def test_a_login_replaces_a_hash_of_another_work_factor(owner: User, client: Client) -> None:
    from accounts.hashers import BcryptHasher

    hasher = BcryptHasher()
    hasher.rounds = project_settings.BCRYPT_ROUNDS + 1
    User.objects.filter(pk=owner.pk).update(password=hasher.encode(PASSWORD, hasher.salt()))
    assert sign_in(client, "owner").status_code == 302
    owner.refresh_from_db()
    assert f"$2b${project_settings.BCRYPT_ROUNDS:02}$" in owner.password


@pytest.mark.django_db
def test_a_wrong_password_replaces_nothing(owner: User) -> None:
    old = make_password(PASSWORD, hasher="scrypt")
    User.objects.filter(pk=owner.pk).update(password=old)
    owner.refresh_from_db()
    assert not owner.check_password("wrong")
    owner.refresh_from_db()
    assert owner.password == old


@pytest.mark.django_db
def test_the_upgrade_does_not_undo_a_password_change_of_the_same_moment(owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(password=make_password(PASSWORD, hasher="scrypt"))
    signing_in = User.objects.get(pk=owner.pk)
    changed = make_password("Another-Password-8")
    User.objects.filter(pk=owner.pk).update(password=changed)
    assert signing_in.check_password(PASSWORD)  # it was right when it was read
    owner.refresh_from_db()
    assert owner.password == changed


@pytest.mark.django_db
def test_an_old_password_that_breaks_todays_policy_still_works_and_is_rehashed(owner: User, client: Client) -> None:
    User.objects.filter(pk=owner.pk).update(password=make_password("weak", hasher="scrypt"))
    assert sign_in(client, "owner", "weak").status_code == 302
    owner.refresh_from_db()
    assert identify_hasher(owner.password).algorithm == "bcrypt_sha256"
    assert owner.check_password("weak")
