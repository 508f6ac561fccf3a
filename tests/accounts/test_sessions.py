"""How long a session lasts, what ends it or gives it another key, and that nothing brings an ended one back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as project_settings
from django.contrib.auth import login
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.views import INTERNAL_RESET_SESSION_TOKEN
from django.contrib.sessions.backends.base import UpdateError
from django.core import signing
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils import timezone

from accounts import life_cycle, links, sessions
from accounts.models import Session, User
from accounts.session_engine import SessionStore, digest_of
from tests.accounts.conftest import sign_in
from tests.factories import UserFactory
from tests.live import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

PROFILE = "/accounts/profile/"
LOGIN = "/accounts/login/"
COOKIE = project_settings.SESSION_COOKIE_NAME
while_it_runs: Callable[[], object] = lambda: None  # noqa: E731 - each test puts its own here


def slow(request: HttpRequest) -> HttpResponse:
    """Write into the session after something has happened elsewhere."""
    assert request.user.is_authenticated
    while_it_runs()
    request.session["note"] = "written late"
    return HttpResponse("done")


def rotating(request: HttpRequest) -> HttpResponse:
    assert request.user.is_authenticated
    while_it_runs()
    request.session.cycle_key()
    return HttpResponse("done")


urlpatterns = [path("slow/", slow), path("rotating/", rotating), path("", include("config.urls"))]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen in the middle of a request to /slow/ or /rotating/."""

    def let(happen: Callable[[], object]) -> None:
        monkeypatch.setitem(globals(), "while_it_runs", happen)

    return let


def is_signed_in(browser: Client) -> bool:
    return browser.get(PROFILE).status_code == 200


def let_pass(*, in_use: bool, **duration: float) -> None:
    """Let every session be older by this much, and unused for as long unless `in_use`."""
    by = timedelta(**duration)
    Session.objects.update(first_seen_at=F("first_seen_at") - by)
    if not in_use:
        Session.objects.update(last_seen_at=F("last_seen_at") - by)


def asked_of_sessions(browser: Client) -> list[str]:
    """The first words of what a page of this browser asks the table of sessions."""
    with CaptureQueriesContext(connection) as queries:
        assert browser.get(PROFILE).status_code == 200
    return [query["sql"].split()[0] for query in queries if "accounts_session" in query["sql"]]


# --- how long ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_staff", [False, True])
@pytest.mark.parametrize("in_use", [False, True])
def test_a_session_ends_after_its_time_in_all_and_unused(owner: User, is_staff: bool, in_use: bool) -> None:
    User.objects.update(is_staff=is_staff)
    browser = Client()
    browser.force_login(owner)
    limits = {False: {True: 14 * 24 * 60, False: 7 * 24 * 60}, True: {True: 24 * 60, False: 60}}
    limit = limits[is_staff][in_use]
    let_pass(in_use=in_use, minutes=limit - 1)
    assert len(sessions.of(owner)) == 1
    assert is_signed_in(browser)
    let_pass(in_use=in_use, minutes=2 if in_use else limit + 1)
    assert sessions.of(owner) == []
    assert not is_signed_in(browser)


def test_the_limits_are_settings_that_hold_for_sessions_of_before_too(owners_browser: Client, settings: Any) -> None:
    let_pass(in_use=True, hours=3)
    settings.SESSION_HOURS = 2
    assert not is_signed_in(owners_browser)


def test_the_cookie_cannot_make_it_last_longer_than_the_row_says(owners_browser: Client) -> None:
    key = owners_browser.session.session_key
    Session.objects.update(expires_at=timezone.now())
    owners_browser.cookies[COOKIE] = key or ""
    assert not is_signed_in(owners_browser)


def test_a_shorter_time_of_its_own_is_kept(owners_browser: Client) -> None:
    session = owners_browser.session
    session.set_expiry(600)
    session.save()
    assert Session.objects.get().expires_at < timezone.now() + timedelta(minutes=11)


def test_expired_sessions_can_be_cleared_by_djangos_command_too(owners_browser: Client) -> None:
    other = SessionStore()
    other.save()
    Session.objects.filter(key_digest=digest_of(other.session_key or "")).update(expires_at=timezone.now())
    call_command("clearsessions")
    assert Session.objects.count() == 1
    assert is_signed_in(owners_browser)


# --- what a page costs ------------------------------------------------------------------------------


def test_a_page_asks_once_and_notes_at_most_once_a_minute_that_it_was_seen(owners_browser: Client) -> None:
    assert asked_of_sessions(owners_browser) == ["SELECT"]
    let_pass(in_use=False, seconds=61)
    before = Session.objects.get()
    assert asked_of_sessions(owners_browser) == ["SELECT", "UPDATE"]
    after = Session.objects.get()
    assert after.last_seen_at > before.last_seen_at
    assert after.first_seen_at == before.first_seen_at
    assert asked_of_sessions(owners_browser) == ["SELECT"]


def test_the_note_tells_with_what_and_from_where_it_was_seen_last(owners_browser: Client) -> None:
    let_pass(in_use=False, minutes=2)
    owners_browser.get(PROFILE, headers={"user-agent": "curl/8.5"}, REMOTE_ADDR="2001:db8::1")
    seen = Session.objects.get()
    assert (seen.address, seen.device) == ("2001:db8::1", "curl")


def test_what_cannot_be_noted_costs_nobody_the_page(owners_browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    let_pass(in_use=False, minutes=2)

    def refuse(self: SessionStore) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    monkeypatch.setattr(SessionStore, "touch", refuse)
    assert is_signed_in(owners_browser)


def test_a_copy_of_the_table_opens_nothing(owners_browser: Client) -> None:
    key = owners_browser.session.session_key or ""
    kept = Session.objects.values().get()
    assert key not in str(kept)
    thief = Client()
    thief.cookies[COOKIE] = kept["key_digest"]
    assert not is_signed_in(thief)


def test_the_token_of_a_link_that_waits_in_a_session_is_in_no_copy_of_the_table(owner: User, stranger: Client) -> None:
    link = links.set_password_url(owner).removeprefix(project_settings.BASE_URL)
    assert stranger.get(link).status_code == 302
    assert stranger.session[INTERNAL_RESET_SESSION_TOKEN] in link
    kept = Session.objects.get().data
    with pytest.raises(signing.BadSignature):  # what is signed only, anybody reads
        signing.loads(kept, salt=SessionStore().key_salt)
    assert SessionStore().decode(kept)[INTERNAL_RESET_SESSION_TOKEN] in link


def test_what_a_session_holds_outlasts_another_key_of_the_site(owners_browser: Client, settings: Any) -> None:
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another key of the site, which is long enough to be one"
    assert not dict(owners_browser.session)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert is_signed_in(owners_browser)


@pytest.mark.parametrize("key", ["", "short", "x" * 10_000, "\ud800" * 40, "é" * 40, "' OR true --"])
def test_an_odd_key_is_nobodys(db: None, key: str) -> None:
    store = SessionStore(key)
    assert store.get("_auth_user_id") is None
    assert store.session_key is None


# Of a table that is nearly empty any index is as good as another.
MANY_SESSIONS = """
INSERT INTO accounts_session (
    id, key_digest, data, agent, first_seen_at, last_seen_at, expires_at, must_rotate
)
SELECT gen_random_uuid(), 'many ' || n, '', '', now(), now(), now() + interval '1 day', false
FROM generate_series(1, 5000) n
"""


def test_every_look_up_has_an_index_whatever_the_number_of_sessions(owner: User) -> None:
    run_sql(MANY_SESSIONS)
    run_sql("SET LOCAL enable_seqscan = off")
    looked_up = {
        "accounts_session_key": Session.objects.alive().filter(key_digest="a"),
        "accounts_session_user": Session.objects.alive().filter(user_id=owner.pk),
        "accounts_session_expiry": Session.objects.filter(expires_at__lt=timezone.now()),
    }
    assert {name: name in rows.explain() for name, rows in looked_up.items()} == dict.fromkeys(looked_up, True)


def test_asynchronous_code_has_the_same_sessions(owners_browser: Client) -> None:
    before = owners_browser.session.session_key or ""
    store = SessionStore(before)

    async def use() -> None:
        assert await store.ahas_key("_auth_user_id")
        await store.acycle_key()
        await store.aset("note", "from there")
        await store.asave()

    async_to_sync(use)()
    assert not SessionStore(before).exists(before)
    assert SessionStore(store.session_key)["note"] == "from there"
    assert Session.objects.count() == 1


# --- what ends it -----------------------------------------------------------------------------------

SHUT_OUT: dict[str, Callable[[User, User], object]] = {
    "service": lambda user, keeper: life_cycle.deactivate(user, acting_user=keeper),
    "planned": lambda user, keeper: life_cycle.schedule_erasure(user, after=timedelta(days=1), acting_user=keeper),
    "update": lambda user, keeper: User.objects.filter(pk=user.pk).update(is_active=False),
    "deleted": lambda user, keeper: User.objects.filter(pk=user.pk).update(deleted_at=timezone.now(), is_active=False),
    "staff": lambda user, keeper: User.objects.filter(pk=user.pk).update(is_staff=True),
    "superuser": lambda user, keeper: User.objects.filter(pk=user.pk).update(is_superuser=True),
    "sql": lambda user, keeper: run_sql("UPDATE accounts_user SET is_active = false WHERE id = %s", user.pk),
}


def run_sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.mark.parametrize("how", SHUT_OUT)
def test_shutting_out_and_new_rank_end_all_sessions_for_good_whoever_writes_it(
    owner: User, owners_browser: Client, administrator: User, colleague: User, how: str
) -> None:
    bystander = Client()
    bystander.force_login(colleague)
    SHUT_OUT[how](owner, administrator)
    assert not Session.objects.filter(user=owner).exists()
    alive = User.objects.filter(pk=owner.pk, deleted_at=None)
    alive.update(is_active=True, erase_at=None, is_staff=False, is_superuser=False)
    assert not is_signed_in(owners_browser), "a session does not outlive a deactivation that is undone"
    assert is_signed_in(bystander)


def test_an_ordinary_edit_ends_none(owner: User, owners_browser: Client) -> None:
    owner.full_name = "Changed"
    owner.save()
    User.objects.update(email_verified_at=timezone.now(), is_active=True)
    assert is_signed_in(owners_browser)


def test_who_is_deleted_takes_the_sessions_along(owner: User, owners_browser: Client) -> None:
    run_sql("DELETE FROM accounts_user_groups")
    User.objects.filter(pk=owner.pk).delete()
    assert not Session.objects.exists()


def test_nobody_gets_a_session_who_was_shut_out_while_signing_in(owner: User) -> None:
    request = HttpRequest()
    request.session = SessionStore()
    login(request, owner, "accounts.backends.IdentityBackend")
    User.objects.update(is_active=False)
    with pytest.raises(UpdateError):
        request.session.save()
    assert not Session.objects.exists()


def test_a_session_that_was_a_strangers_is_refused_to_them_too(owner: User, stranger: Client) -> None:
    stranger.get("/accounts/verify/anything/")
    session = stranger.session
    session["_auth_user_id"] = str(owner.pk)
    User.objects.update(is_active=False)
    with pytest.raises(UpdateError):
        session.save()
    assert not Session.objects.filter(user=owner).exists()


def test_all_but_one_in_the_transaction_of_the_caller(owner: User) -> None:
    browsers = [Client() for _browser in range(3)]
    for browser in browsers:
        browser.force_login(owner)
    with transaction.atomic():
        assert sessions.end_all(owner, but=browsers[1].session.session_key or "") == 2
        transaction.set_rollback(True)
    assert Session.objects.count() == 3
    assert sessions.end_all(owner, but=browsers[1].session.session_key or "") == 2
    assert [is_signed_in(browser) for browser in browsers] == [False, True, False]
    assert sessions.end_all(owner) == 1


# --- another key ------------------------------------------------------------------------------------

ROLES: dict[str, Callable[[User], object]] = {
    "given": lambda user: user.groups.add(Group.objects.get(name="Auditor")),
    "taken": lambda user: user.groups.clear(),
    "permission": lambda user: user.user_permissions.add(Permission.objects.all()[0]),
}


@pytest.mark.parametrize("change", ROLES)
def test_the_next_request_after_a_change_of_roles_gets_another_key(owner: User, change: str) -> None:
    owner.groups.add(Group.objects.get(name="Support"))
    browser = Client()
    browser.force_login(owner)
    before = browser.cookies[COOKIE].value
    assert is_signed_in(browser)
    assert browser.cookies[COOKIE].value == before
    first_seen = Session.objects.get().first_seen_at
    ROLES[change](owner)
    assert is_signed_in(browser)
    after = browser.cookies[COOKIE].value
    assert after != before
    assert is_signed_in(browser)
    assert browser.cookies[COOKIE].value == after, "once"
    thief = Client()
    thief.cookies[COOKIE] = before
    assert not is_signed_in(thief)
    assert Session.objects.get().first_seen_at == first_seen


def test_a_request_under_way_with_the_key_of_before_takes_the_new_one_from_nobody(owner: User) -> None:
    browser, late = Client(), Client()
    browser.force_login(owner)
    late.cookies[COOKIE] = browser.cookies[COOKIE].value
    owner.groups.add(Group.objects.get(name="Auditor"))
    assert is_signed_in(browser)
    for page in (PROFILE, LOGIN):
        assert COOKIE not in late.get(page).cookies
    answer = late.post("/accounts/logout/")
    assert answer.cookies[COOKIE]["max-age"] == 0
    assert is_signed_in(browser)


def test_a_login_in_a_session_of_the_same_person_changes_the_key_too(owner: User, owners_browser: Client) -> None:
    request = HttpRequest()
    request.session = SessionStore(owners_browser.session.session_key)
    request.COOKIES[COOKIE] = owners_browser.session.session_key or ""
    before = request.session.session_key
    login(request, owner, "accounts.backends.IdentityBackend")
    assert request.session.session_key != before


def test_a_login_begins_the_time_of_a_session_that_was_a_strangers(owner: User, stranger: Client) -> None:
    stranger.get("/accounts/password/reset/MQ/some-token/")
    session = stranger.session
    session["kept"] = "from before"
    session.save()
    stranger.cookies[COOKIE] = session.session_key or ""
    let_pass(in_use=True, hours=1)
    old = Session.objects.get().first_seen_at
    sign_in(stranger, "owner")
    assert Session.objects.get().first_seen_at > old
    assert stranger.session["kept"] == "from before"


# --- at the same time -------------------------------------------------------------------------------


def elsewhere(do: Callable[[], object]) -> None:
    """Do it in a thread, and so in a connection and a transaction, of its own."""

    def run() -> None:
        try:
            do()
        finally:
            connections.close_all()

    thread = Thread(target=run)
    thread.start()
    thread.join()


def shut_out_and_let_in_again() -> None:
    User.objects.update(is_active=False)
    User.objects.update(is_active=True)


ENDED: dict[str, Callable[[], object]] = {
    "by the owner": lambda: sessions.end_all(User.objects.get()),
    "by a shut-out": shut_out_and_let_in_again,
    "by retention": lambda: Session.objects.all().delete(),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["/slow/", "/rotating/"])
@pytest.mark.parametrize("ended", ENDED)
def test_what_is_ended_while_its_request_runs_does_not_come_back(
    meanwhile: Callable[[Callable[[], object]], None], ended: str, place: str
) -> None:
    browser = Client()
    browser.force_login(UserFactory.create())
    meanwhile(lambda: elsewhere(ENDED[ended]))
    answer = browser.get(f"{place}?a=b")
    assert (answer.status_code, answer["Location"]) == (303, f"{LOGIN}?next={place.replace('/', '%2F')}%3Fa%3Db")
    assert not Session.objects.exists()
    assert not is_signed_in(browser)
    assert browser.post("/accounts/logout/").status_code == 302


@pytest.mark.django_db(transaction=True)
def test_a_post_whose_session_is_ended_meanwhile_goes_to_the_plain_login(
    meanwhile: Callable[[Callable[[], object]], None],
) -> None:
    browser = Client()
    browser.force_login(UserFactory.create())
    meanwhile(lambda: elsewhere(ENDED["by the owner"]))
    answer = browser.post("/slow/")
    assert (answer.status_code, answer["Location"]) == (303, LOGIN)


@pytest.mark.django_db(transaction=True)
def test_two_who_sign_in_at_once_are_both_listed() -> None:
    owner = UserFactory.create(username="owner")
    browsers = [Client(), Client()]

    def arrive(browser: Client) -> int:
        try:
            return int(sign_in(browser, "owner").status_code)
        finally:
            connections.close_all()

    assert at_once([lambda: arrive(browsers[0]), lambda: arrive(browsers[1])]) == [302, 302]
    assert len(sessions.of(User.objects.get(pk=owner.pk))) == 2
    assert [is_signed_in(browser) for browser in browsers] == [True, True]


@pytest.mark.django_db(transaction=True)
def test_a_login_waits_for_a_shut_out_that_is_being_committed_and_then_finds_nobody() -> None:
    owner = UserFactory.create(username="owner")
    waits, refused = Event(), Event()

    def log_in() -> None:
        store = SessionStore()
        store["_auth_user_id"] = str(owner.pk)
        waits.set()
        try:
            store.save()
        except UpdateError:
            refused.set()
        finally:
            connections.close_all()

    with transaction.atomic():
        User.objects.update(is_active=False)
        thread = Thread(target=log_in)
        thread.start()
        waits.wait(10)
        wait_until_somebody_waits_for_a_lock()
        assert not refused.is_set()
    thread.join(10)
    assert refused.is_set()
    assert not Session.objects.exists()


def wait_until_somebody_waits_for_a_lock() -> None:
    for _look in range(1000):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.01), count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[1]:
                return
    pytest.fail("nobody waits")
