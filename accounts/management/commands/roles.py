"""``manage.py roles``: list who holds which role, give one, take one."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count

from accounts import role_changes, roles
from accounts.models import User


class Command(BaseCommand):
    help = "Look after roles. Whoever may run this may give any role; it is recorded who did."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="the roles and how many hold each, or what these people hold")
        listing.add_argument("user", nargs="*", metavar="USER", help="a username or e-mail address")
        for name, about in (("give", "give a role"), ("take", "take a role; who has no other one stays a member")):
            action = actions.add_parser(name, help=about)
            action.add_argument("user", nargs="+", metavar="USER", help="a username or e-mail address")
            action.add_argument("role", metavar="ROLE", help="as `roles list` shows it")
            action.add_argument("--reason", default="", help="recorded with the change")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *args: Any, action: str, user: list[str], as_json: bool, **options: Any) -> None:
        people = [_find(name) for name in user]
        if action == "list":
            facts = [_of_person(person) for person in people] if user else _all_roles()
        else:
            facts = _change(people, _role(options["role"]), give=action == "give", reason=options["reason"])
        if as_json:
            self.stdout.write(json.dumps(facts, indent=2))
        else:
            self.stdout.writelines(f"{_line(each)}\n" for each in facts)
        if any(each.get("result") not in (None, "done", "unchanged") for each in facts):
            raise SystemExit(1)


def _find(name: str) -> User:
    user = User.objects.by_login_name(name)
    if user is None:
        raise CommandError(f"There is no user {name!r}. Nothing was changed.")
    return user


def _role(name: str) -> Group:
    found = {group.name.lower(): group for group in Group.objects.all()}
    if name.lower() not in found:
        offered = ", ".join(sorted(group.name for group in found.values()))
        raise CommandError(f"There is no role {name!r}. There are: {offered}. Nothing was changed.")
    return found[name.lower()]


def _change(people: list[User], role: Group, *, give: bool, reason: str) -> list[dict[str, Any]]:
    ids = [person.pk for person in people]
    verdicts = role_changes.change_roles(ids, role, give=give, acting_user=None, reason=reason)
    return [{"user": each.user.username, "result": each.code, "words": each.words} for each in verdicts]


def _of_person(person: User) -> dict[str, Any]:
    return {"user": person.username, "roles": sorted(person.groups.values_list("name", flat=True))}


def _all_roles() -> list[dict[str, Any]]:
    # Everybody is a member: counted, that would read a table of ten million rows.
    few = Group.objects.exclude(name=roles.MEMBER).annotate(people=Count("user")).order_by("name")
    everybody = [{"role": roles.MEMBER, "people": None, "declared": True}]
    counted = [{"role": group.name, "people": group.people, "declared": group.name in roles.ROLES} for group in few]
    return everybody + counted


def _line(facts: dict[str, Any]) -> str:
    if "role" in facts:
        people = "nearly everybody" if facts["people"] is None else f"{facts['people']} people"
        own = "" if facts["declared"] else ", a group of this site's own"
        return f"{facts['role']}: {people}{own}"
    told = ", ".join(facts["roles"]) if "roles" in facts else facts["words"] or facts["result"]
    return f"{facts['user']}: {told}"
