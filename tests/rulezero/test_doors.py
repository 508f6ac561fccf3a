"""Who gets through which door: every page, admin view, endpoint and command, and everybody who may stand before it.

The tables are all there is: a door that is not in them makes a test fail, which tells the line to add.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management import get_commands, load_command_class
from django.test import Client

from tests.factories import UserFactory
from tests.rulezero.house import Answer, Door, House, ask, post

# A letter for each of them, in this order:
ROLES = ("stranger", "Member", "Support", "Auditor", "Administrator", "superuser")
# y: in (also: a form that explains itself, a redirect that leads on); n: refused; l: has to sign in first;
# a: absent, for them; -: the method is none of this door's.
Row = (
    str | tuple[str, str]
)  # what a GET meets, and what an empty POST does, if that is anything else but "-" or the same

EVERYBODY, SIGNED_IN, STAFF, SUPERUSER = "yyyyyy", "lyyyyy", "llyyyy", "llnnny"
NOBODY = "llnnnn"  # of the staff
DOORS: dict[str, Row] = {
    "": EVERYBODY,
    "accounts/": (SIGNED_IN, "l-----"),
    "accounts/signup/": EVERYBODY,
    "accounts/invitation/": "ayyyyy",  # without the link there is nothing to see, or one is in already
    "accounts/invitation/ask/": ("------", "aaaaaa"),
    "accounts/invitation/<str:token>/": EVERYBODY,
    "accounts/invitations/": "lnynyy",
    "accounts/invitations/<uuid:invitation_id>/": "layyyy",
    "accounts/invitations/<uuid:invitation_id>/link/": ("l-----", "laynyy"),
    "accounts/invitations/<uuid:invitation_id>/resend/": ("l-----", "laynyy"),
    "accounts/invitations/<uuid:invitation_id>/replace/": ("l-----", "laynyy"),
    "accounts/invitations/<uuid:invitation_id>/revoke/": ("l-----", "laynyy"),
    "accounts/login/": EVERYBODY,
    "accounts/logout/": ("------", EVERYBODY),
    "accounts/verify/": "aaaaaa",  # as without a link
    "accounts/verify/again/": EVERYBODY,
    "accounts/verify/<str:token>/": EVERYBODY,
    "accounts/password/reset/": EVERYBODY,
    "accounts/password/reset/sent/": EVERYBODY,
    "accounts/password/reset/<str:uidb64>/<str:token>/": EVERYBODY,
    "accounts/password/change/": SIGNED_IN,
    "accounts/profile/": SIGNED_IN,
    "accounts/activity/": SIGNED_IN,
    "accounts/invitation/opened/": ("------", EVERYBODY),
    "accounts/password/meter/": ("------", EVERYBODY),
    "accounts/password/suggestion/": EVERYBODY,
    "accounts/confirm/": SIGNED_IN,
    "accounts/data/": SIGNED_IN,
    "accounts/data/<uuid:export_id>/": ("laaaaa", "l-----"),  # another's
    "accounts/delete/": SIGNED_IN,
    "accounts/delete/cancel/": "aaaaaa",  # as without a link
    "accounts/delete/cancel/<str:token>/": (EVERYBODY, "------"),
    "accounts/email/": SIGNED_IN,
    "accounts/email/keep/": ("l-----", SIGNED_IN),
    "accounts/email/confirm/": "laaaaa",
    "accounts/email/confirm/<str:token>/": (EVERYBODY, "------"),
    "accounts/email/undo/": "aaaaaa",
    "accounts/email/undo/<str:token>/": (EVERYBODY, "------"),
    "accounts/security/sign-ins/": (SIGNED_IN, "l-----"),
    "accounts/security/sessions/": (SIGNED_IN, "l-----"),
    "accounts/security/sessions/end-others/": ("l-----", SIGNED_IN),
    "accounts/security/sessions/<uuid:session_id>/end/": ("l-----", SIGNED_IN),  # another's is ended already, for them
    # Before anybody has shown a password, each leads back to the login.
    "accounts/login/second-factor/": EVERYBODY,
    "accounts/login/second-factor/question/": ("------", "nnnnnn"),
    "accounts/login/second-factor/recovery/": "aaaaaa",
    "accounts/login/second-factor/recovery/<str:token>/": (EVERYBODY, "------"),
    "accounts/security/second-factor/": (SIGNED_IN, "l-----"),
    "accounts/security/second-factor/app/": ("l-----", SIGNED_IN),
    "accounts/security/second-factor/app/confirm/": SIGNED_IN,
    "accounts/security/second-factor/passkey/": SIGNED_IN,
    "accounts/security/second-factor/passkey/question/": ("l-----", SIGNED_IN),
    "accounts/security/second-factor/question/": ("l-----", SIGNED_IN),
    "accounts/security/second-factor/codes/": SIGNED_IN,
    "accounts/security/second-factor/codes/text/": ("laaaaa", "l-----"),  # only while new ones are shown
    "accounts/security/second-factor/codes/kept/": ("l-----", SIGNED_IN),
    "accounts/security/second-factor/<uuid:factor_id>/": "laaaaa",  # another's
    "accounts/security/second-factor/<uuid:factor_id>/remove/": "laaaaa",
    "admin/": STAFF,
    "admin/login/": EVERYBODY,
    "admin/logout/": ("yy----", EVERYBODY),
    "admin/password_change/": STAFF,
    "admin/password_change/done/": STAFF,
    "admin/autocomplete/": NOBODY,
    "admin/jsi18n/": STAFF,
    "admin/r/<path:content_type_id>/<path:object_id>/": "llaaaa",
    "admin/accounts/import/<path:object_id>/start/": ("ll----", "llaaay"),  # another's
    "admin/accounts/import/<path:object_id>/discard/": ("ll----", "llaaay"),
    "admin/accounts/import/<path:object_id>/report/": "llaaay",
    "admin/accounts/invitation/figures/": STAFF,
    "admin/accounts/user/<path:object_id>/erase/": "llnnyy",
    "admin/accounts/user/confirm/": ("ll----", "llnnnn"),  # of no action
    "admin/accounts/user/roles/": ("ll-n--", "llynyy"),
    "admin/auditlog/record/export/": ("lln---", "llnyyy"),
    "admin/auditlog/record/<path:object_id>/restore/": "llnnyy",
    "admin/healthcheck/run/start/<slug:name>/": "llnnyy",
    "admin/^(?P<app_label>": STAFF,
    "admin/(?P<url>.*)$": "llaaaa",
    # Probes and pages alike: what is in them depends on who looks. Each with and without the slash at the end.
    "health": EVERYBODY,
    "health/database": EVERYBODY,
    "health/database/statistics": EVERYBODY,
    "health/metrics": EVERYBODY,
    "health/system": EVERYBODY,
    "health/<slug:name>": EVERYBODY,
    "health/database/optimize": ("------", "nnnnyy"),
    "health/database/migrations": (EVERYBODY, "nnnnny"),
    "health/cleanup": ("------", "nnnnyy"),
    "health/jobs/<uuid:run_id>": "aayyyy",
    # In development only.
    "dev/mail/": EVERYBODY,
    "dev/mail/<str:name>/": EVERYBODY,
    "dev/mail/<str:name>/html/": EVERYBODY,
    "dev/style/": EVERYBODY,
}
# Of each model in the admin: its list, the form for a new one, the page of one (a GET, a POST), and its history. Nobody
# deletes anything there, and the short address of one leads all staff to its page, which decides.
IN_ADMIN: dict[str, tuple[Row, Row, Row, Row]] = {
    # list, add, change, history
    "accounts/import": ("llynyy", "llynyy", ("llynyy", NOBODY), STAFF),
    "accounts/invitation": (STAFF, "llynyy", (STAFF, NOBODY), STAFF),
    "accounts/user": (STAFF, "llnnyy", (STAFF, "llynyy"), STAFF),
    "accounts/loginattempt": (STAFF, NOBODY, (STAFF, NOBODY), STAFF),
    "auditlog/record": ("llnyyy", NOBODY, "llnyyy", "llnyyy"),
    "auth/group": (STAFF, SUPERUSER, (STAFF, NOBODY), STAFF),
    "django_tasks_database/dbtaskresult": (SUPERUSER, NOBODY, (SUPERUSER, NOBODY), SUPERUSER),
    "healthcheck/connectionsample": (STAFF, NOBODY, (STAFF, NOBODY), STAFF),
    "healthcheck/incident": (STAFF, NOBODY, (STAFF, NOBODY), STAFF),
    "healthcheck/run": (STAFF, NOBODY, (STAFF, NOBODY), STAFF),
    "healthcheck/sample": (STAFF, NOBODY, (STAFF, NOBODY), STAFF),
}
# Whoever has a shell runs a command, and may do everything; those marked act in somebody's name and rights on demand.
BY = "or --by somebody, with their rights"
COMMANDS = {
    "accounts": {
        "create_user": "",
        "generate_password": "",
        "import_people": BY,
        "invitations": "",
        "invite": BY,
        "rehearse_signups": "",
        "roles": "",
        "seed": "",
        "stats": "",
        "unlock": "",
    },
    "auditlog": {"audit": "", "watch": ""},
    "config": dict.fromkeys(["backup", "cleanup", "database", "flush", "migrate", "restore", "serve", "worker"], ""),
    "healthcheck": {"health": ""},
}


def declared() -> dict[str, Row]:
    doors = dict(DOORS)
    for model, (listing, add, change, history) in IN_ADMIN.items():
        one = f"admin/{model}/<path:object_id>/"
        doors |= {f"admin/{model}/": listing, f"admin/{model}/add/": add, f"{one}change/": change}
        doors |= {f"{one}history/": history, f"{one}delete/": NOBODY, one: STAFF}
    return doors


def name_of(door: Door) -> str:
    """The key of a door: one for a probe's two addresses, and for the list of apps, whose route lists them all."""
    if door.route.startswith("health"):
        return door.route.rstrip("/")
    return "admin/^(?P<app_label>" if door.route.startswith("admin/^(?P<app_label>") else door.route


@pytest.fixture
def staffed(house: House) -> House:
    """The house with one more of each role."""
    for role in ROLES[1:]:
        above = role == "superuser"
        user = UserFactory.create(username=f"the-{role.lower()}", is_staff=role != "Member", is_superuser=above)
        user.groups.set(Group.objects.filter(name="Administrator" if above else role))
        browser = Client()
        browser.force_login(user, "accounts.backends.IdentityBackend")
        house._sessions[role] = browser.cookies[settings.SESSION_COOKIE_NAME].value
    return house


def letter(answer: Answer) -> str:
    if "/login/?next=" in answer.response.get("Location", ""):
        return "l"
    return {405: "-", 401: "n", 403: "n", 404: "a", 410: "a"}.get(answer.status, "y")


def met(house: House, door: Door, method: str, roles: tuple[str, ...] = ROLES) -> str:
    path = door.paths[0]
    answers = [
        post(house.browser(role), path) if method == "POST" else ask(house.browser(role), method, path)
        for role in roles
    ]
    return "".join(map(letter, answers))


def line(house: House, door: Door) -> str:
    """What to write into the table if what is met is right."""
    return f'    "{name_of(door)}": ("{met(house, door, "GET")}", "{met(house, door, "POST")}"),'


def test_everybody_gets_through_the_doors_that_are_declared_and_no_other(staffed: House) -> None:
    doors, faults = declared(), []
    for door in _one_of_each(staffed.doors):
        row = doors.get(name_of(door))
        if row is None or met(staffed, door, "GET") != (row if isinstance(row, str) else row[0]):
            faults.append(line(staffed, door))
    assert not faults, "These doors are undeclared, or open to others than declared:\n" + "\n".join(faults)


def test_everybody_acts_where_it_is_declared_and_nowhere_else(staffed: House) -> None:
    doors, faults = declared(), []
    for door in _one_of_each(staffed.doors):
        row = doors.get(name_of(door), "")
        if isinstance(row, tuple):
            right = met(staffed, door, "POST") == row[1]
        else:  # a POST is not taken, or meets what a GET does; asked as two only, the least and the most trusted
            ends = met(staffed, door, "POST", ("Member", "superuser"))
            right = bool(row) and ends[0] in ("-", row[1]) and ends[1] in ("-", row[-1])
        if not right:
            faults.append(line(staffed, door))
    assert not faults, "Somebody may act there who is not declared, or the other way round:\n" + "\n".join(faults)


def _one_of_each(doors: list[Door]) -> Iterator[Door]:
    yield from {name_of(door): door for door in doors}.values()


def test_no_door_is_declared_that_is_not_there(house: House) -> None:
    assert declared().keys() == {name_of(door) for door in house.doors}


def test_every_command_of_ours_is_declared() -> None:
    ours = {
        app.label for app in apps.get_app_configs() if app.name in ("accounts", "auditlog", "config", "healthcheck")
    }
    found: dict[str, dict[str, str]] = {}
    for name, app in get_commands().items():
        if app in ours:
            found.setdefault(app, {})[name] = BY if _takes_a_name(app, name) else ""
    undeclared = [
        f'"{name}": "{found[app][name]}",' for app in found for name in found[app] if name not in COMMANDS[app]
    ]
    assert found == COMMANDS, undeclared


def _takes_a_name(app: Any, name: str) -> bool:
    parser = load_command_class(app, name).create_parser("manage.py", name)
    return any("--by" in action.option_strings for action in parser._actions)
