"""Who acts, on whose behalf, why and from where: what every record of a write says besides the change itself.

It follows a request through async code and its threads, as context variables do. A thread that is started by hand
begins with none; hand it `carried(function)`.
"""

from __future__ import annotations

import contextvars
import getpass
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

LONGEST_LABEL = 120  # characters, as in the triggers
LONGEST_REASON = 500
LONGEST_AGENT = 300
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Actor:
    """Who acts; `kind` is one of `Record.ActorKind`."""

    kind: str
    id: str | None = None
    label: str | None = None

    @classmethod
    def of_user(cls, user: Any) -> Actor:
        """A user of ours, or the stranger that `request.user` is before somebody signs in."""
        if not user.is_authenticated:
            return ANONYMOUS
        return cls("user", str(user.pk), str(user)[:LONGEST_LABEL])


ANONYMOUS = Actor("anonymous")


@dataclass(frozen=True, kw_only=True)
class Context:
    """`actor` None: whoever is signed in to `request` when the write happens, or else the running command."""

    actor: Actor | None = None
    on_behalf_of: Actor | None = None
    reason: str = ""
    request: HttpRequest | None = None
    texts: dict[tuple[Actor, str], str] = field(default_factory=dict, compare=False)

    def who(self) -> Actor:
        if self.actor is not None:
            return self.actor
        if self.request is not None:
            return visitor_of(self.request)
        return replace(running_command(), kind="migration") if _migrating else running_command()

    def text(self, origin: str) -> str:
        """What travels to the database, as JSON."""
        actor = self.who()
        text = self.texts.get((actor, origin))
        if text is None:
            text = self.texts[actor, origin] = json.dumps(self._facts(actor, origin))
        return text

    def _facts(self, actor: Actor, origin: str) -> dict[str, Any]:
        behalf = self.on_behalf_of or Actor("")
        facts = {
            "origin": origin,
            "actor_kind": actor.kind,
            "actor_id": _storable(actor.id or "", LONGEST_LABEL),
            "actor_label": _storable(actor.label or "", LONGEST_LABEL),
            "on_behalf_id": _storable(behalf.id or "", LONGEST_LABEL),
            "on_behalf_label": _storable(behalf.label or "", LONGEST_LABEL),
            "reason": _storable(self.reason, LONGEST_REASON),
            **self._from_where(),
        }
        return {name: value for name, value in facts.items() if value}

    def _from_where(self) -> dict[str, Any]:
        if self.request is None:
            return {}
        request_id = getattr(self.request, "request_id", "")  # without one, no two requests must look like one
        return {
            "address": import_string(settings.AUDITLOG_CLIENT_ADDRESS)(self.request),
            "agent": self.agent_number,
            "request": str(request_uuid(request_id)) if request_id else None,
        }

    @cached_property
    def agent(self) -> str:
        """The name that the browser gives itself, bounded."""
        return _storable(self.request.headers.get("User-Agent", ""), LONGEST_AGENT) if self.request is not None else ""

    @cached_property
    def agent_number(self) -> int | None:
        """By which records know that name; None when there is none."""
        return agent_id(self.agent) if self.agent else None


_is_asked: contextvars.ContextVar[bool] = contextvars.ContextVar("auditlog_visitor_is_asked", default=False)


def visitor_of(request: HttpRequest) -> Actor:
    """Whoever is signed in; nobody yet for what Django writes to find that out, a session's new key for one."""
    if _is_asked.get():
        return ANONYMOUS
    token = _is_asked.set(True)
    try:
        user = getattr(request, "user", None)
        return ANONYMOUS if user is None else Actor.of_user(user)
    finally:
        _is_asked.reset(token)


def agent_id(agent: str) -> int:
    """The number by which records know a browser's name: 63 bits of its digest."""
    return int.from_bytes(blake2b(agent.encode(), digest_size=8).digest(), "big") >> 1


def request_uuid(request_id: str) -> uuid.UUID:
    """The id of a request as records hold it: itself when it is a UUID, else one that is made of it."""
    try:
        return uuid.UUID(request_id)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, request_id)


def _storable(text: str, longest: int) -> str:
    return text[:longest].replace("\0", "").encode("utf-8", "replace").decode()


@cache
def running_command() -> Actor:
    """The program that this process runs, and the operating system's user who runs it."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    name = sys.argv[1] if program in ("manage.py", "django-admin") and len(sys.argv) > 1 else program
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        who = str(os.getuid())
    kind = "migration" if name == "migrate" else "command"
    return Actor(kind, name[:LONGEST_LABEL], who[:LONGEST_LABEL])


_migrating = False


def be_migrating(*, yes: bool) -> None:
    """Say whether what this process writes of its own accord is a migration's work."""
    global _migrating  # noqa: PLW0603 - a process migrates or it does not
    _migrating = yes


_NOBODY_SAID = Context()
_current: contextvars.ContextVar[Context] = contextvars.ContextVar("audit_context", default=_NOBODY_SAID)


def current() -> Context:
    return _current.get()


@contextmanager
def in_context(context: Context) -> Iterator[None]:
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def acting_as(actor: Any = None, *, on_behalf_of: Any = None, reason: str = "") -> Iterator[None]:
    """Record what happens in the block as done by `actor`, a user or an `Actor`; None: as before.

    Where it comes from (address, browser, request) stays what it was.
    """
    changes: dict[str, Any] = {"texts": {}}
    if actor is not None:
        changes["actor"] = _as_actor(actor)
    if on_behalf_of is not None:
        changes["on_behalf_of"] = _as_actor(on_behalf_of)
    if reason:
        changes["reason"] = str(reason)
    with in_context(replace(current(), **changes)):
        yield


def _as_actor(actor: Any) -> Actor:
    return actor if isinstance(actor, Actor) else Actor.of_user(actor)


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` bound to the context of this moment, for a thread or pool that runs it later."""
    context = current()

    def in_same_context(*args: P.args, **kwargs: P.kwargs) -> R:
        with in_context(context):
            return function(*args, **kwargs)

    return in_same_context
