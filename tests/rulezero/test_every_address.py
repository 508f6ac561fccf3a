"""One walk through every address, with every method, with and without a token, as everybody."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client

from accounts.models import User
from tests.factories import PASSWORD
from tests.rulezero.house import METHODS, TOKEN, Answer, House, ask, post, told

ROLES = ["stranger", "member", "clerk", "keeper"]
# What a forged form sends instead of the page's own token, or beside it.
FORGED = {
    "no token": {"token": ""},
    "another browser's token": {"token": "u" * 32},
    "a token of no kind": {"token": "x"},
    "from a sibling host": {"HTTP_ORIGIN": "http://evil.localhost:8000"},
    "from another scheme": {"HTTP_ORIGIN": "https://testserver"},
    "from nowhere": {"HTTP_ORIGIN": "null"},
    "from a forged host": {"HTTP_ORIGIN": "http://testserver.evil.example"},
}


def wrote(answer: Answer) -> list[str]:
    return [f"{answer.asked} wrote: {statement}" for statement in answer.wrote]


@pytest.mark.parametrize("role", ROLES)
def test_no_method_fails_anywhere_and_none_but_post_writes(house: House, role: str) -> None:
    faults: list[str] = []
    for door in house.doors:
        for method in METHODS:
            if method != "POST":
                # With a valid token: what is refused without one would prove nothing about the method.
                answer = ask(house.browser(role), method, door.paths[0], HTTP_X_CSRFTOKEN=TOKEN)
                faults += answer.faults() + wrote(answer)
    assert not faults, told(faults)


@pytest.mark.parametrize("role", ROLES)
def test_a_forged_post_is_refused_and_writes_nothing_anywhere(house: House, role: str) -> None:
    faults: list[str] = []
    for number, door in enumerate(house.doors):
        # Tokens are looked at before anybody's rights: those between the ends get one kind each.
        kinds = list(FORGED.items()) if role in ("stranger", "keeper") else [list(FORGED.items())[number % len(FORGED)]]
        for name, forged in kinds:
            answer = post(house.browser(role), door.paths[0], b"post=yes&username=a", **forged)
            faults += answer.faults() + wrote(answer)
            takes_none = answer.status == 405 and "POST" not in answer.response["Allow"]
            if answer.status != 403 and not takes_none:
                faults.append(f"{answer.asked} {name}: {answer.status} instead of 403")
    assert not faults, told(faults)


@pytest.mark.parametrize("role", ROLES)
def test_an_empty_post_with_a_token_fails_nowhere_and_gives_nobody_a_right(house: House, role: str) -> None:
    faults: list[str] = []
    for door in house.doors:
        answer = post(house.browser(role), door.paths[0])
        faults += answer.faults()
        # Who may delete, deletes; and everybody may ask for their data or keep their address by a mere button.
        if role != "keeper" and door.paths[0] not in ("/accounts/data/", "/accounts/email/keep/"):
            faults += wrote(answer)
    assert not faults, told(faults)


@pytest.mark.parametrize("role", ["stranger", "keeper"])
def test_what_does_not_exist_fails_nowhere_and_writes_nothing(house: House, role: str) -> None:
    faults: list[str] = []
    for door in house.doors:
        for path in door.paths[1:]:
            looked, sent = ask(house.browser(role), "GET", path), post(house.browser(role), path, b"post=yes")
            faults += looked.faults() + wrote(looked) + sent.faults() + wrote(sent)
    assert not faults, told(faults)


def test_the_walk_reaches_every_model_in_the_admin_and_every_page_of_ours(house: House) -> None:
    reached = {
        door.route
        for door in house.doors
        if ask(house.browser("keeper"), "GET", door.paths[0]).status == 200 or "logout" in door.route
    }
    for model in admin.site._registry:
        place = f"admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert {place, f"{place}<path:object_id>/change/", f"{place}<path:object_id>/history/"} <= reached
    strangers = {
        door.route for door in house.doors if ask(house.browser("stranger"), "GET", door.paths[0]).status == 200
    }
    assert {"", "accounts/signup/", "accounts/login/", "admin/login/", "accounts/password/reset/"} <= strangers


def test_the_admin_tells_a_stranger_nothing_about_which_addresses_exist(house: House) -> None:
    def heard(path: str, method: str) -> tuple[object, ...]:
        answer = ask(house.browser("stranger"), method, path)
        headers = {name: value.replace(path, "") for name, value in answer.response.items() if name != "X-Request-ID"}
        for moving in ("Content-Length", "Expires"):  # the address's length, and the second
            headers.pop(moving, None)
        return answer.status, headers, len(answer.text.replace(answer.response["X-Request-ID"], ""))

    # The way in and the way out are no secret.
    known = [door for door in house.doors if re.match(r"admin/(?!log|.*\$)\w", door.route)]
    assert len(known) > 30
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        unknown = heard("/admin/no/such/thing/", method)
        assert [door.route for door in known if heard(door.paths[0], method) != unknown] == []
        paths = [door.paths[0].rstrip("/") for door in known]
        slashless = heard("/admin/no/such/thing", method)
        assert [path for path in paths if heard(path, method) != slashless] == []


EXTRA = {
    "is_staff": "on",
    "is_superuser": "on",
    "is_active": "",
    "groups": "1",
    "user_permissions": "1",
    "id": "00000000-0000-0000-0000-000000000001",
    "pk": "00000000-0000-0000-0000-000000000001",
    "email_verified_at": "2020-01-01 00:00",
    "look_alike_approved": "on",
    "login_count": "7",
    "version": "7",
    "username_canonical": "root",
    "deleted_at": "2020-01-01 00:00",
}


def columns(user: User) -> dict[str, object]:
    return {name: value for name, value in vars(user).items() if name in EXTRA} | {
        "groups": list(user.groups.all()),
        "rights": list(user.user_permissions.all()),
    }


def test_extra_fields_of_a_signup_change_nothing(house: House) -> None:
    wanted = {"username": "anna", "email": "anna@example.com", "password": PASSWORD}
    assert Client().post("/accounts/signup/", {**EXTRA, **wanted}).status_code == 303
    made = columns(User.objects.get(username="anna"))
    assert str(made.pop("id")) != EXTRA["id"]
    assert made == {
        "is_staff": False,
        "is_superuser": False,
        "is_active": True,
        "email_verified_at": None,
        "look_alike_approved": False,
        "login_count": 0,
        "version": 1,
        "username_canonical": "anna",
        "deleted_at": None,
        "groups": [Group.objects.get(name="Member")],
        "rights": [],
    }


def test_extra_fields_of_a_profile_change_nothing(house: House) -> None:
    before = columns(house.member)
    browser = Client()
    browser.force_login(house.member, "accounts.backends.IdentityBackend")
    more = {"username": "root", "email": "root@example.com", "full_name": "Mia", "version": house.member.version}
    assert browser.post("/accounts/profile/", {**EXTRA, **more}).status_code == 303
    after = User.objects.get(pk=house.member.pk)
    assert (after.full_name, after.username, after.email) == ("Mia", "member", "member@example.com")
    assert {**columns(after), "version": 0, "login_count": 0} == {**before, "version": 0, "login_count": 0}
