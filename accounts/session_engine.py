"""Sessions that know whose they are: the engine (`SESSION_ENGINE`) and its middleware.

A row belongs to one user from the login on and is found by a digest of its key; what it holds is encrypted, for the
tokens of mailed links wait there. So a copy of the table opens nothing. An ended session never comes back: what was
ended is never inserted again, only updated where it still is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions import middleware
from django.contrib.sessions.backends.base import VALID_KEY_CHARS, CreateError, SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.db import DatabaseError, IntegrityError, InterfaceError, transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils import timezone
from django.utils.crypto import get_random_string

from accounts.models import Session
from accounts.second_factor import encryption
from accounts.user_agents import storable
from config.client_address import client_address
from config.middleware import is_own_path

SEEN_EVERY = timedelta(minutes=1)  # how exact "last seen" is
_ABOUT = "session"  # not its key, which changes
_UNIQUE_KEY = "accounts_session_key"
log = structlog.get_logger("accounts.sessions")


def digest_of(session_key: str) -> str:
    """Return by what the table knows a key; it has 165 random bits, so nobody needs salt or time."""
    return hashlib.sha256(session_key.encode("utf-8", "replace")).hexdigest()


class SessionStore(SessionBase):
    """One browser's session. `row` is what the table holds of it, None before it is looked up or saved."""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self.row: Session | None = None
        self._is_cycling = False
        self.was_ended_here = False  # by this request, on purpose
        self.seen_with: dict[str, str | None] = {}  # address and agent, when a browser is there

    def encode(self, session_dict: dict[str, Any]) -> str:
        return encryption.encrypt(super().encode(session_dict), about=_ABOUT)

    def decode(self, session_data: str) -> dict[str, Any]:  # type: ignore[override]  # `encode` makes no bytes
        encoded = encryption.decrypt(session_data, about=_ABOUT)
        return {} if encoded is None else super().decode(encoded)

    def load(self) -> dict[str, Any]:
        self.row = Session.objects.alive().filter(key_digest=digest_of(self.session_key or "")).first()
        if self.row is None:
            self._session_key = None
            return {}
        return self.decode(self.row.data)

    def exists(self, session_key: str) -> bool:
        return Session.objects.filter(key_digest=digest_of(session_key)).exists()

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()
            with suppress(CreateError):
                self.save(must_create=True)
                self.modified = True
                return

    def save(self, must_create: bool = False) -> None:
        """Write all of it. Raises CreateError (the key is taken) and UpdateError (it was ended meanwhile)."""
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)  # type: ignore[attr-defined]  # not in the stubs
        values = {"data": self.encode(data), "user_id": data.get(SESSION_KEY), "expires_at": self.get_expiry_date()}
        with _refusals():
            if must_create:
                digest = digest_of(self.session_key)
                self.row = Session.objects.create(key_digest=digest, **values, **self._seen_with(values["user_id"]))
            else:
                self._update(values)

    def _update(self, values: dict[str, Any]) -> None:
        values |= {"last_seen_at": Now(), **self._seen_with(values["user_id"])}
        if self.row is None or str(self.row.user_id) != str(values["user_id"]):
            values["first_seen_at"] = Now()  # a login begins a life of its own
        if not self._mine().update(**values):
            raise UpdateError
        if self.row is not None:
            self.row.user_id = values["user_id"]

    def touch(self) -> None:
        """Note that it is in use, unless somebody has within `SEEN_EVERY`."""
        if self.row is not None and timezone.now() - self.row.last_seen_at >= SEEN_EVERY:
            stale = Session.objects.filter(pk=self.row.pk, last_seen_at__lte=Now() - SEEN_EVERY)
            stale.update(last_seen_at=Now(), **self._seen_with(self.row.user_id))

    def _seen_with(self, user_id: object) -> dict[str, str | None]:
        """Where a stranger sits is nobody's business, and nobody could ever find it to erase it."""
        return self.seen_with if user_id else {}

    def cycle_key(self) -> None:
        """Give it another key, by which alone it is found from now on. Raises UpdateError when it was ended.

        The write asks who is signed in, for its record, and Django may call this again to find that out.
        """
        if not self._is_cycling:
            self._is_cycling = True
            try:
                self._cycle_key()
            finally:
                self._is_cycling = False

    def _cycle_key(self) -> None:
        signed_in = SESSION_KEY in self
        key = self._get_new_session_key()
        if self.session_key and self._mine().update(key_digest=digest_of(key), must_rotate=False):
            self._session_key = key
            if self.row is not None:
                self.row.must_rotate = False
        elif self.session_key and signed_in:
            raise UpdateError
        else:
            self._session_key = None  # nothing to go on with: it gets a row and a key when it is saved
        self.modified = True

    async def acycle_key(self) -> None:
        await sync_to_async(self.cycle_key)()

    def delete(self, session_key: str | None = None) -> None:
        self.was_ended_here = self.was_ended_here or session_key is None
        if key := session_key or self.session_key:
            Session.objects.filter(key_digest=digest_of(key)).delete()

    @classmethod
    def clear_expired(cls) -> None:
        Session.objects.filter(expires_at__lt=timezone.now()).delete()

    def _mine(self) -> Any:
        return Session.objects.filter(key_digest=digest_of(self.session_key or ""))

    def _get_new_session_key(self) -> str:
        return get_random_string(32, VALID_KEY_CHARS)  # the constraint looks whether it is taken


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the database refuses into Django's words: a key that is taken, an owner who may have no session."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        raise (CreateError if constraint == _UNIQUE_KEY else UpdateError) from error


class SessionMiddleware(middleware.SessionMiddleware):
    """As Django's, and whoever was signed out while the request ran is sent to the login, not to an error."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        agent = storable(request.headers.get("User-Agent", ""))
        store(request).seen_with = {"address": client_address(request) or None, "agent": agent}

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            _look_after(store(request))
        try:
            response = super().process_response(request, response)
        except SessionInterrupted:
            return _signed_out(request)
        if store(request).is_empty() and not store(request).was_ended_here:
            # Django drops a cookie with nothing behind it. The browser may have that of another request by now, which
            # gave the session another key, and would lose it.
            response.cookies.pop(settings.SESSION_COOKIE_NAME, None)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        return _signed_out(request) if isinstance(exception, UpdateError) else None


def store(request: HttpRequest) -> SessionStore:
    """Return the session of a request, as what it is."""
    session: Any = request.session
    return session  # type: ignore[no-any-return]


def _look_after(session: SessionStore) -> None:
    """Do what is due for a session that was used: another key, or a note that it was seen."""
    if session.row is None or session.is_empty():
        return
    if session.row.must_rotate:
        with suppress(UpdateError):  # another request of the same browser was faster, or somebody ended it
            session.cycle_key()
    if not session.modified:
        try:
            session.touch()
        except (DatabaseError, InterfaceError):  # the page is made; nobody must lose it for a note
            log.warning("session.not_noted", exc_info=True)


def _signed_out(request: HttpRequest) -> HttpResponse:
    path = request.get_full_path()
    query = f"?{urlencode({'next': path})}" if request.method == "GET" and is_own_path(path) else ""
    # The cookie stays: it may be that of another request by now.
    return HttpResponseRedirect(resolve_url(settings.LOGIN_URL) + query, status=HTTPStatus.SEE_OTHER)
