"""Signing up, through the page."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_tasks_db.models import DBTaskResult

from accounts import services
from accounts.errors import MESSAGES, AccountError
from accounts.hashers import BcryptHasher
from accounts.models import User
from auditlog.models import Record
from tests.accounts.conftest import codes, jobs, link_in, run_jobs, sign_in, text_of
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

SIGNUP = "/accounts/signup/"
FORM = {
    "username": "Newcomer",
    "email": "Newcomer@Example.com",
    "full_name": "Nora Newcomer",
    "password": PASSWORD,
}


def send(browser: Client, **changes: str) -> Any:
    """Open the page and send the form, as a browser does: it then holds the page's cookie."""
    browser.get(SIGNUP)
    return browser.post(SIGNUP, FORM | changes)


def seen(browser: Client, response: Any) -> tuple[Any, ...]:
    """All that a visitor can tell about an answer: status, headers, body, and the page that comes next."""
    headers = {name: value for name, value in response.items() if name not in ("X-Request-ID", "Expires")}
    cookies = sorted(response.cookies)
    after = re.sub(r'csrfmiddlewaretoken" value="\w+"', "", text_of(browser.get(response["Location"])))
    return response.status_code, headers, response.content, cookies, after


def test_a_newcomer_gets_one_unverified_account_and_a_mail(
    stranger: Client, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        response = send(stranger)
    assert (response.status_code, response["Location"], response.content) == (303, "/accounts/login/", b"")
    user = User.objects.get()
    assert (user.username, user.email, user.full_name) == ("Newcomer", "Newcomer@Example.com", "Nora Newcomer")
    assert (user.email_verified_at, user.last_login, user.login_count) == (None, None, 0)
    assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
    assert user.check_password(PASSWORD)
    assert jobs() == [("send_mail_to_user", ["verify_email", str(user.pk)])]
    (record,) = Record.objects.filter(resource="accounts.user", object_id=str(user.pk), action="create")
    assert (record.origin, record.reason) == ("save", "signup")
    assert (record.actor_kind, record.object_label, record.address) == ("anonymous", "Newcomer", "127.0.0.1")
    assert record.request is not None and record.request.hex == response["X-Request-ID"]
    (message,) = run_jobs()
    assert (message.to, link_in(message)[:17]) == (["Newcomer@Example.com"], "/accounts/verify/")


def test_the_next_page_says_where_the_mail_went_and_the_newcomer_cannot_sign_in_yet(stranger: Client) -> None:
    page = text_of(stranger.get(send(stranger)["Location"]))
    assert "Almost done. We have sent a mail to Newcomer@Example.com: open its link, then sign in." in page
    assert sign_in(stranger, "newcomer").status_code == 422


def test_the_page_has_a_fresh_form_and_the_rules(stranger: Client) -> None:
    page = stranger.get(SIGNUP)
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    assert "Use at least 12 characters." in text_of(page)
    assert "Use at least one symbol, like ! ? # or %." in text_of(page)
    assert 'maxlength="1024"' not in text_of(page)  # browsers would cut a pasted password without a word


@pytest.mark.parametrize("method", ["get", "head"])
def test_looking_changes_nothing(stranger: Client, method: str) -> None:
    response = getattr(stranger, method)(SIGNUP, FORM)
    assert response.status_code == 200
    assert not User.objects.exists()
    assert jobs() == []


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_other_methods_are_refused_with_a_page(stranger: Client, method: str) -> None:
    response = getattr(stranger, method)(SIGNUP)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")


def test_a_form_without_a_token_is_refused() -> None:
    browser = Client(enforce_csrf_checks=True)
    assert send(browser).status_code == 403
    assert not User.objects.exists()


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"username": ""}, "username", ["required"]),
        ({"username": "  "}, "username", ["required"]),
        ({"username": "ab"}, "username", ["username_too_short"]),
        ({"username": "a" * 65}, "username", ["max_length", "username_too_long"]),
        ({"username": "jane doe"}, "username", ["username_characters"]),
        ({"username": "jane\0doe"}, "username", ["username_characters", "null_characters_not_allowed"]),
        ({"username": "AdmiN"}, "username", ["username_reserved"]),
        ({"email": ""}, "email", ["required"]),
        ({"email": "nonsense"}, "email", ["email_invalid"]),
        ({"email": "j\u0131m@example.com"}, "email", ["email_invalid"]),
        ({"email": "a" * 250 + "@example.com"}, "email", ["email_invalid", "max_length"]),
        ({"full_name": "x" * 151}, "full_name", ["max_length"]),
        ({"password": ""}, "password", ["required"]),
        ({"password": "Abcdefgh12345"}, "password", ["password_no_symbol"]),
        ({"password": "Nora-Newcomer-1"}, "password", ["password_too_similar"]),
        ({"password": "Aa1-" + "x" * 1021}, "password", ["password_too_long"]),
        ({"password": "Aa1-" + "ü" * 511}, "password", ["password_too_long"]),
        ({"password": PASSWORD + "\0"}, "password", ["password_unstorable"]),
    ],
)
def test_a_bad_field_is_explained_and_nothing_is_made(
    stranger: Client, changes: dict[str, str], field: str, expected: list[str]
) -> None:
    response = send(stranger, **changes)
    assert response.status_code == 422
    assert sorted(codes(response.context["form"], field)) == sorted(expected)
    assert list(response.context["form"].errors) == [field]
    assert not User.objects.exists()
    assert jobs() == []


def test_all_failures_are_told_together(stranger: Client) -> None:
    response = send(stranger, username="a ", email="nonsense", password="password")
    errors = response.context["form"].errors.as_data()
    assert {field: [error.code for error in found] for field, found in errors.items()} == {
        "username": ["username_too_short"],
        "email": ["email_invalid"],
        "password": [
            "password_too_short",
            "password_no_uppercase",
            "password_no_digit",
            "password_no_symbol",
            "password_too_common",
        ],
    }
    for text in ("Use at least 3 characters.", "Enter a valid e-mail address", "Use at least one digit."):
        assert text in text_of(response)


def test_what_was_typed_is_kept_but_never_the_password(stranger: Client) -> None:
    page = text_of(send(stranger, username="kept.name", email="kept@", full_name="Kept <Name>", password="Secret-1"))
    assert 'value="kept.name"' in page
    assert 'value="kept@"' in page
    assert 'value="Kept &lt;Name&gt;"' in page
    assert "Secret-1" not in page


@pytest.mark.parametrize(
    ("username", "code"),
    [("OWNER", "username_taken"), ("ｏｗｎｅｒ", "username_taken"), ("0wner", "username_look_alike")],
)
def test_a_taken_name_is_told_before_the_password_is_hashed(
    stranger: Client, owner: User, username: str, code: str
) -> None:
    response = send(stranger, username=username)
    assert response.status_code == 422
    assert codes(response.context["form"], "username") == [code]
    assert str(MESSAGES[code]) in text_of(response)
    assert User.objects.count() == 1


def test_a_name_given_up_lately_is_told(stranger: Client, owner: User) -> None:
    owner.username = "renamed"
    owner.save()
    assert codes(send(stranger, username="owner").context["form"], "username") == ["username_retired"]


@pytest.mark.parametrize(
    ("username", "code"),
    [("OWNER", "username_taken"), ("0wner", "username_look_alike"), ("former", "username_retired")],
)
def test_a_name_taken_between_the_check_and_the_write_is_a_409_beside_the_field(
    stranger: Client, owner: User, monkeypatch: pytest.MonkeyPatch, username: str, code: str
) -> None:
    renamed = UserFactory.create(username="former")
    renamed.username = "renamed"
    renamed.save()
    monkeypatch.setattr(services, "username_refusal", lambda user: None)  # nobody was there yet
    response = send(stranger, username=username)
    assert response.status_code == 409
    assert codes(response.context["form"], "username") == [code]
    assert f'value="{username}"' in text_of(response)
    assert User.objects.count() == 2
    assert jobs() == []


@pytest.mark.parametrize(("mode", "words"), [("closed", "Sign-up is closed"), ("invite", "You need an invitation")])
def test_a_door_that_is_not_open_says_so(stranger: Client, settings: Any, mode: str, words: str) -> None:
    settings.SIGNUP_MODE = mode
    for response in (stranger.get(SIGNUP), send(stranger)):
        assert response.status_code == 403
        assert words in text_of(response)
    assert not User.objects.exists()
    with pytest.raises(AccountError, match="signup_closed"):
        services.sign_up(services.SignUp(username="jane", email="j@example.com", password=PASSWORD, browser=""))


def test_only_listed_domains_may_send(stranger: Client, settings: Any) -> None:
    settings.SIGNUP_EMAIL_DOMAINS = ["example.org"]
    refused = send(stranger)
    assert (refused.status_code, codes(refused.context["form"], "email")) == (422, ["email_domain"])
    assert "example.org" in text_of(refused)
    assert send(stranger, email="newcomer@EXAMPLE.org").status_code == 303


# --- one answer for all -----------------------------------------------------------------------------


def test_a_known_address_is_answered_like_a_new_one_and_its_owner_is_told(owner: User) -> None:
    first, second = Client(), Client()
    new = seen(first, send(first, username="somebody", email="new@example.com"))
    known = seen(second, send(second, username="somebody-else", email="owner@example.com"))
    assert new[-1].replace("new@example.com", "ADDRESS") == known[-1].replace("owner@example.com", "ADDRESS")
    assert new[:-1] == known[:-1]
    assert not User.objects.filter(username="somebody-else").exists()
    told = run_jobs()[-1]
    assert (told.to, told.subject) == (["owner@example.com"], "You already have an account")


def test_a_known_address_in_another_spelling_is_known(stranger: Client, owner: User) -> None:
    assert send(stranger, email="OWNER@Example.COM").status_code == 303
    assert User.objects.count() == 1
    assert jobs() == [("send_mail_to_address", ["address_known", "OWNER@Example.COM"])]
    assert [message.to for message in run_jobs()] == [["owner@example.com"]]


def test_a_known_address_changes_nothing_on_its_account(stranger: Client, owner: User) -> None:
    before = User.objects.values().get()
    send(stranger, email="owner@example.com", password="Another-Password-8")
    assert User.objects.values().get() == before


def test_the_same_form_sent_again_is_answered_alike_and_makes_one_account(stranger: Client) -> None:
    stranger.get(SIGNUP)
    answers = [seen(stranger, stranger.post(SIGNUP, FORM)) for _time in range(3)]
    assert answers[0][0] == 303
    assert answers == [answers[0]] * 3
    assert User.objects.count() == 1
    assert jobs() == [("send_mail_to_user", ["verify_email", str(User.objects.get().pk)])]


def test_the_same_form_in_the_same_instant_is_answered_alike(stranger: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "username_refusal", lambda user: None)  # neither saw the other
    stranger.get(SIGNUP)
    answers = [seen(stranger, stranger.post(SIGNUP, FORM)) for _time in range(2)]
    assert answers[0][0] == 303
    assert answers[0] == answers[1]
    assert User.objects.count() == 1


def test_the_same_form_again_does_not_change_the_password(stranger: Client) -> None:
    send(stranger)
    assert stranger.post(SIGNUP, FORM | {"password": "Another-Password-8"}).status_code == 303
    assert User.objects.get().check_password(PASSWORD)


def test_the_same_browser_with_other_data_is_another_person(stranger: Client) -> None:
    assert send(stranger).status_code == 303
    assert send(stranger, username="another", email="another@example.com").status_code == 303
    assert sorted(User.objects.values_list("username", flat=True)) == ["Newcomer", "another"]


def test_the_same_browser_with_the_same_name_but_another_address_is_refused(stranger: Client) -> None:
    send(stranger)
    response = stranger.post(SIGNUP, FORM | {"email": "another@example.com"})
    assert (response.status_code, codes(response.context["form"], "username")) == (422, ["username_taken"])


def test_the_same_data_from_another_browser_are_refused(stranger: Client) -> None:
    send(stranger)
    response = send(Client())
    assert (response.status_code, codes(response.context["form"], "username")) == (422, ["username_taken"])


@pytest.mark.parametrize("cookie", ["", "x", "ü" * 2000, "\udce4", '"\\355\\240\\200"'])
def test_a_missing_or_odd_cookie_costs_nobody_the_account(stranger: Client, cookie: str) -> None:
    stranger.cookies["csrftoken"] = cookie.encode("utf-8", "replace").decode()
    response = stranger.post(SIGNUP, FORM)
    assert (response.status_code, User.objects.count()) == (303, 1)


def test_extra_fields_change_nothing(stranger: Client) -> None:
    Group.objects.create(name="Administrators")
    chosen = uuid.uuid4()
    send(
        stranger,
        id=str(chosen),
        pk=str(chosen),
        is_staff="on",
        is_superuser="on",
        is_active="",
        email_verified_at="2020-01-01",
        groups="1",
        user_permissions=str(Permission.objects.first().pk),  # type: ignore[union-attr]
        version="7",
        look_alike_approved="on",
    )
    user = User.objects.get()
    assert user.pk != chosen
    assert (user.is_staff, user.is_superuser, user.is_active, user.email_verified_at) == (False, False, True, None)
    assert (user.version, user.look_alike_approved) == (1, False)
    assert [group.name for group in user.groups.all()] == ["Member"]
    assert not user.user_permissions.exists()


def test_who_is_signed_in_is_sent_on(owners_browser: Client) -> None:
    for response in (owners_browser.get(SIGNUP), send(owners_browser)):
        assert (response.status_code, response["Location"]) == (303, "/accounts/profile/")
    assert User.objects.count() == 1


# --- cost -------------------------------------------------------------------------------------------

LOOKS = ("SELECT", "(SELECT")  # a union begins with a bracket


def test_a_refused_password_opens_no_transaction(
    stranger: Client, django_assert_num_queries: Callable[..., Any]
) -> None:
    stranger.get(SIGNUP)
    with django_assert_num_queries(2) as queries:  # is the name taken, was it given up lately
        assert stranger.post(SIGNUP, FORM | {"password": "weak"}).status_code == 422
    assert all(query["sql"].startswith(LOOKS) for query in queries.captured_queries)


def test_a_signup_takes_few_queries(stranger: Client, django_assert_max_num_queries: Callable[..., Any]) -> None:
    UserFactory.create_batch(20)
    with django_assert_max_num_queries(8):
        assert send(stranger).status_code == 303


def test_the_password_is_hashed_before_the_transaction(stranger: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    encode = BcryptHasher.encode

    def noting_when(self: BcryptHasher, password: str, salt: str | bytes) -> str:
        begun.append(len(queries.captured_queries))
        return encode(self, password, salt)

    monkeypatch.setattr(BcryptHasher, "encode", noting_when)
    with CaptureQueriesContext(connection) as queries:
        assert send(stranger).status_code == 303
    (hashed_after,) = begun
    assert all(query["sql"].startswith(LOOKS) for query in queries.captured_queries[:hashed_after])
    assert any(query["sql"].startswith("INSERT") for query in queries.captured_queries[hashed_after:])


def test_a_fault_after_the_insert_leaves_no_half_account(
    stranger: Client, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    monkeypatch.setattr(DBTaskResult._meta, "db_table", "no_such_table")  # the queue refuses the job
    browser = Client(raise_request_exception=False)
    with django_capture_on_commit_callbacks(execute=True):
        response = send(browser)
    assert response.status_code == 500
    assert not User.objects.exists()
    assert not Record.objects.filter(resource="accounts.user", object_label="Newcomer").exists()


def test_nobody_learns_from_the_name_whether_the_address_was_known(owner: User, stranger: Client) -> None:
    """After a signup with a known address its name is as taken as after one with a new address."""
    assert send(stranger, username="probe.one", email=owner.email).status_code == 303
    assert send(Client(), username="probe.two", email="new@example.com").status_code == 303
    for name in ("probe.one", "probe.two", "PROBE.ONE", "PROBE.TWO"):
        response = send(Client(), username=name, email="third@example.com")
        assert (response.status_code, codes(response.context["form"], "username")) == (422, ["username_taken"])
    assert send(Client(), username="pr0be.one", email="third@example.com").status_code == (
        send(Client(), username="pr0be.two", email="third@example.com").status_code
    )


def test_a_double_click_with_a_known_address_is_answered_twice_and_mailed_once(owner: User, stranger: Client) -> None:
    answers = [send(stranger, username="probe", email=owner.email) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert len(jobs()) == 1


@pytest.mark.parametrize("name", ["line\nbreak", "escape \x1b[31m", "turn \u202e around"])
def test_a_full_name_is_one_plain_line(stranger: Client, name: str) -> None:
    assert codes(send(stranger, full_name=name).context["form"], "full_name") == ["control_characters"]
