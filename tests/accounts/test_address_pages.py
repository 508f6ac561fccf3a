"""Changing one's own e-mail address: asked for, confirmed from the new one, undone from the old one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import close_old_connections, connection
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts import addresses, life_cycle, links, services
from accounts.errors import AccountError
from accounts.models import LoginAttempt, RequestedMail, User
from accounts.second_factor import events, factors
from accounts.second_factor.models import RecoveryCodes, RecoveryLink
from auditlog.models import Record
from config import retention
from tests.accounts.conftest import but_new_devices, codes, jobs, let_pass, link_in, run_jobs, sign_in, text_of
from tests.accounts.phones import give_phone
from tests.accounts.test_events import Trail
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

EMAIL = "/accounts/email/"
CONFIRM = f"{EMAIL}confirm/"
UNDO = f"{EMAIL}undo/"
LOGIN = "/accounts/login/"
NEW = "new@example.com"
OTHER = "Another-Password-8"


@pytest.fixture
def browser(owner: User) -> Client:
    signed_in = Client()
    sign_in(signed_in, "owner")
    return signed_in


def ask(browser: Client, email: str = NEW, password: str = PASSWORD) -> Any:
    return browser.post(EMAIL, {"email": email, "password": password})


def mails_by_address() -> dict[str, Any]:
    return {message.to[0]: message for message in run_jobs()}


def asked(browser: Client, email: str = NEW, password: str = PASSWORD) -> str:
    """Ask for `email` and return the path of the link that it gets."""
    assert ask(browser, email, password).status_code == 303
    return link_in(mails_by_address()[email])


def confirmed(browser: Client, email: str = NEW) -> str:
    """Change to `email` by the pages and return the path of the link that undoes it."""
    browser.get(asked(browser, email))
    assert browser.post(CONFIRM).status_code == 303
    (message,) = run_jobs()
    return link_in(message)


def undo(path: str, browser: Client | None = None) -> Any:
    browser = browser or Client()
    browser.get(path)
    return browser.post(UNDO)


def email_of(user: User) -> str:
    return User.objects.get(pk=user.pk).email


def states(user: User) -> list[str]:
    return list(user.address_changes.order_by("requested_at").values_list("state", flat=True))


# --- asking -----------------------------------------------------------------------------------------


def test_nothing_changes_until_the_new_address_is_confirmed(browser: Client, owner: User) -> None:
    response = ask(browser, "New@Example.com")
    assert (response.status_code, response["Location"]) == (303, EMAIL)
    page = text_of(browser.get(EMAIL))
    assert "We have sent a mail to New@Example.com" in page
    assert "Waiting for confirmation" in page
    assert email_of(owner) == "owner@example.com"
    mails = mails_by_address()
    assert {address: message.subject for address, message in mails.items()} == {
        "New@Example.com": "Confirm your new e-mail address",
        "owner@example.com": "Your e-mail address is about to change",
    }
    assert "new@example.com" not in mails["owner@example.com"].body.lower()  # others may read that mailbox


def test_from_asking_to_the_new_address(browser: Client, owner: User) -> None:
    path = asked(browser)
    opened = browser.get(path)
    assert (opened.status_code, opened["Location"]) == (302, CONFIRM)  # the token has left the address
    page = browser.get(CONFIRM)
    assert (page.status_code, NEW in text_of(page)) == (200, True)
    assert email_of(owner) == "owner@example.com"
    response = browser.post(CONFIRM)
    assert (response.status_code, response["Location"]) == (303, EMAIL)
    assert "Your address is changed." in text_of(browser.get(EMAIL))
    assert "_confirm_address_token" not in browser.session
    changed = User.objects.get(pk=owner.pk)
    assert (changed.email, changed.email_canonical, changed.version) == (NEW, NEW, owner.version + 1)
    assert changed.email_verified_at is not None
    assert owner.email_verified_at is not None
    assert changed.email_verified_at > owner.email_verified_at
    assert sign_in(Client(), NEW).status_code == 302
    assert sign_in(Client(), "owner@example.com").status_code == 422
    (told,) = but_new_devices(run_jobs())
    assert (told.to, told.subject) == (["owner@example.com"], "Your e-mail address was changed")
    assert "for 7 days" in told.body
    record = Record.objects.filter(resource="accounts.user", action="update", object_id=str(owner.pk)).latest("id")
    assert (record.reason, record.actor_id) == ("own e-mail address changed", str(owner.pk))
    assert (record.before["email"], record.after["email"]) == ("owner@example.com", NEW)


@pytest.mark.parametrize(
    ("email", "password", "field", "code"),
    [
        ("", PASSWORD, "email", "required"),
        ("nonsense", PASSWORD, "email", "email_invalid"),
        ("a\0@example.com", PASSWORD, "email", "email_invalid"),
        ("x" * 10_000 + "@example.com", PASSWORD, "email", "email_invalid"),
        ("OWNER@example.com", PASSWORD, "email", "address_same"),
        (NEW, "", "password", "required"),
        (NEW, "Wrong-Password-1", "password", "password_incorrect"),
    ],
)
def test_what_is_wrong_is_explained_and_nothing_is_asked(
    browser: Client, owner: User, email: str, password: str, field: str, code: str
) -> None:
    response = ask(browser, email, password)
    assert (response.status_code, codes(response.context["form"], field)[:1]) == (422, [code])
    assert (states(owner), jobs()) == ([], [])


def test_the_password_counts_as_a_login_does_and_a_lock_ends_it(browser: Client, owner: User) -> None:
    for _try in range(5):
        ask(browser, password="Wrong-Password-1")
    assert ask(browser).status_code == 429
    assert (states(owner), jobs()) == ([], [])


def test_an_address_that_is_refused_anyway_costs_no_try(browser: Client) -> None:
    before = LoginAttempt.objects.count()
    ask(browser, "nonsense", "Wrong-Password-1")
    assert LoginAttempt.objects.count() == before


def test_only_addresses_that_may_sign_up_are_taken(browser: Client, owner: User, settings: Any) -> None:
    settings.SIGNUP_EMAIL_DOMAINS = ["example.com"]
    assert ask(browser, "me@elsewhere.example").status_code == 422
    with pytest.raises(ValidationError):
        addresses.request_change(owner, "me@elsewhere.example")
    assert ask(browser).status_code == 303


def test_a_known_address_is_answered_like_a_new_one_and_its_owner_is_told(
    browser: Client, owner: User, colleague: User
) -> None:
    def answered(email: str) -> tuple[int, str, str, int]:
        with connection.execute_wrapper(counting):
            response = ask(browser, email)
        page = re.sub(r'value="\w{64}"', "", text_of(browser.get(EMAIL)).replace(email, "…"))
        return response.status_code, response["Location"], page.partition("<main")[2], len(statements)

    statements: list[str] = []
    browser.get(EMAIL)

    def counting(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    first = answered("free@example.com")
    mails_by_address()
    statements.clear()
    free = answered("fresh@example.com")
    mails_by_address()
    statements.clear()
    known = answered("Colleague@example.com")
    assert first[:3] == free[:3] == known[:3]
    assert free[3] == known[3]
    mails = mails_by_address()
    assert mails["colleague@example.com"].subject == "Somebody wants to use your e-mail address"
    assert "Colleague@example.com" not in mails
    assert "owner" not in mails["colleague@example.com"].body


def test_a_shut_out_owner_of_the_address_gets_no_mail(browser: Client, colleague: User) -> None:
    User.objects.filter(pk=colleague.pk).update(is_active=False)
    assert ask(browser, colleague.email).status_code == 303
    assert list(mails_by_address()) == ["owner@example.com"]


def test_a_new_wish_takes_the_place_of_the_old_one(browser: Client, owner: User) -> None:
    first = asked(browser)
    second = asked(browser, "newer@example.com")
    assert states(owner) == ["dropped", "waiting"]
    assert browser.get(first, follow=True).status_code == 404
    assert browser.get(second, follow=True).status_code == 200


def test_the_old_address_can_be_kept(browser: Client, owner: User) -> None:
    path = asked(browser)
    assert browser.get(f"{EMAIL}keep/").status_code == 405
    kept = browser.post(f"{EMAIL}keep/")
    assert (kept.status_code, kept["Location"], states(owner)) == (303, EMAIL, ["dropped"])
    browser.get(path)
    assert browser.post(CONFIRM).status_code == 404


def test_so_many_a_day_and_no_more(browser: Client, owner: User) -> None:
    for number in range(addresses.MOST_REQUESTS):
        assert ask(browser, f"new{number}@example.com").status_code == 303
        let_pass(minutes=1)
    refused = ask(browser, "more@example.com")
    assert (refused.status_code, codes(refused.context["form"], "__all__")) == (409, ["address_changes_limit"])
    owner.address_changes.update(requested_at=F("requested_at") - timedelta(days=1))
    assert ask(browser, "more@example.com").status_code == 303


def test_one_address_gets_no_more_mails_than_it_may(browser: Client, owner: User) -> None:
    RequestedMail.objects.bulk_create(RequestedMail(email_canonical=NEW) for _mail in range(4))
    ask(browser)
    assert list(mails_by_address()) == ["owner@example.com"]


def test_a_stranger_is_asked_to_sign_in(stranger: Client) -> None:
    for path in (EMAIL, CONFIRM):
        assert stranger.get(path)["Location"] == f"{LOGIN}?next={path}"


def test_forms_need_a_token(owner: User) -> None:
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(owner)
    assert [forger.post(path).status_code for path in (EMAIL, f"{EMAIL}keep/", CONFIRM, UNDO)] == [403] * 4


# --- confirming -------------------------------------------------------------------------------------


def test_opening_the_links_changes_nothing_so_scanners_do_no_harm(browser: Client, owner: User) -> None:
    def opened(path: str) -> None:
        for method in ("get", "head", "options"):
            for visitor in (Client(), browser):
                getattr(visitor, method)(path, follow=True)

    path = asked(browser)
    opened(path)
    assert email_of(owner) == "owner@example.com"
    back = confirmed_by(browser, path)
    opened(back)
    assert email_of(owner) == NEW


def confirmed_by(browser: Client, path: str) -> str:
    browser.get(path)
    assert browser.post(CONFIRM).status_code == 303
    return link_in(run_jobs()[-1])


def assert_confirms_nothing(browser: Client, path: str, owner: User) -> None:
    before = email_of(owner)
    for response in (browser.get(path, follow=True), browser.post(CONFIRM)):
        assert (response.status_code, "This link no longer works" in text_of(response)) == (404, True)
    assert email_of(owner) == before


def test_a_link_confirms_nothing_where_another_is_signed_in(browser: Client, owner: User, colleague: User) -> None:
    path = asked(browser)
    theirs = Client()
    sign_in(theirs, "colleague")
    assert_confirms_nothing(theirs, path, owner)
    assert email_of(colleague) == "colleague@example.com"
    nobodys = Client()
    assert nobodys.get(path, follow=True).redirect_chain[-1][0] == f"{LOGIN}?next={CONFIRM}"
    assert sign_in(nobodys, "owner", next=CONFIRM).status_code == 302
    assert nobodys.post(CONFIRM).status_code == 303  # the token has waited for the sign-in
    assert email_of(owner) == NEW


def test_a_link_works_once(browser: Client, owner: User) -> None:
    path = asked(browser)
    confirmed_by(browser, path)
    assert browser.get(path, follow=True).status_code == 404
    browser.post(CONFIRM)  # the second of two clicks
    assert Record.objects.filter(reason="own e-mail address changed", resource="accounts.user").count() == 1
    assert jobs() == []
    confirmed(browser, "owner@example.com")
    assert_confirms_nothing(browser, path, owner)


def test_a_link_ends_after_its_hours(browser: Client, owner: User, settings: Any) -> None:
    path = asked(browser)
    too_old = timedelta(hours=settings.EMAIL_VERIFICATION_HOURS)
    owner.address_changes.update(requested_at=timezone.now() - too_old + timedelta(minutes=1))
    assert browser.get(path, follow=True).status_code == 200
    owner.address_changes.update(requested_at=timezone.now() - too_old)
    assert_confirms_nothing(browser, path, owner)
    assert "Waiting for confirmation" not in text_of(browser.get(EMAIL))


@pytest.mark.parametrize("change", ["password", "address"])
def test_a_link_dies_when_password_or_address_change_meanwhile(browser: Client, owner: User, change: str) -> None:
    path = asked(browser)
    current = User.objects.get(pk=owner.pk)
    if change == "password":
        services.change_password(current, OTHER)
    else:
        current.email = "set-by-staff@example.com"
        current.save()
    again = Client()
    again.force_login(current, "accounts.backends.IdentityBackend")
    assert_confirms_nothing(again, path, owner)


@pytest.mark.parametrize("token", ["x", "a:b:c", "." * 500, "'\"<script>", "WyJhIiwgImIiXQ:1abcde:" + "A" * 43])
@pytest.mark.parametrize("page", [CONFIRM, UNDO])
def test_a_forged_link_is_refused(browser: Client, owner: User, page: str, token: str) -> None:
    response = browser.get(f"{page}{token}/")
    assert (response.status_code, "This link no longer works" in text_of(response)) == (404, True)
    assert response["Referrer-Policy"] in ("same-origin", "no-referrer")
    assert "no-store" in response["Cache-Control"]


def test_a_token_opens_only_the_door_it_was_made_for(browser: Client, owner: User) -> None:
    ask(browser)
    (change,) = owner.address_changes.all()
    confirming, undoing = (link(change).split("/")[-2] for link in (links.confirm_address_url, links.undo_address_url))
    for path in (f"{UNDO}{confirming}/", f"{CONFIRM}{undoing}/", f"/accounts/verify/{confirming}/"):
        assert browser.get(path).status_code == 404
    # Also the right one opens nothing before its time.
    assert browser.get(f"{UNDO}{undoing}/", follow=True).status_code == 404
    assert browser.post(UNDO).status_code == 404


def test_an_address_that_was_taken_meanwhile_is_explained(browser: Client, owner: User) -> None:
    path = asked(browser)
    UserFactory.create(username="faster", email="NEW@example.com")
    browser.get(path)
    response = browser.post(CONFIRM, follow=True)
    assert response.redirect_chain == [(EMAIL, 303)]
    assert "already belongs to an account" in text_of(response)
    assert (email_of(owner), states(owner)) == ("owner@example.com", ["dropped"])


# --- undoing ----------------------------------------------------------------------------------------


def test_the_old_address_takes_the_account_back(browser: Client, owner: User) -> None:
    path = confirmed(browser)
    assert ask(browser, "third@example.com").status_code == 303  # a thief goes on
    thief = Client()
    sign_in(thief, NEW)
    nobody = Client()
    opened = nobody.get(path)
    assert (opened.status_code, opened["Location"]) == (302, UNDO)
    assert "owner@example.com" in text_of(nobody.get(UNDO))
    assert email_of(owner) == NEW
    response = nobody.post(UNDO)
    assert (response.status_code, response["Location"]) == (303, LOGIN)
    restored = User.objects.get(pk=owner.pk)
    assert (restored.email, restored.email_verified_at) == ("owner@example.com", owner.email_verified_at)
    assert sorted(states(owner)) == ["dropped", "undone"]
    for signed_out in (browser, thief):
        assert signed_out.get(EMAIL)["Location"] == f"{LOGIN}?next={EMAIL}"
    assert sign_in(Client(), "owner").status_code == 422  # whoever changed the address knew the password
    message = mails_by_address()["owner@example.com"]
    assert message.subject == "Your e-mail address is back"
    chosen = nobody.get(link_in(message), follow=True)
    form = {"new_password1": OTHER, "new_password2": OTHER}
    assert nobody.post(chosen.request["PATH_INFO"], form).status_code == 303
    assert sign_in(Client(), "owner@example.com", OTHER).status_code == 302
    record = Record.objects.filter(action="update", object_id=str(owner.pk), actor_kind="anonymous").earliest("id")
    assert record.reason == "change of e-mail address undone by a mailed link"


def test_what_a_thief_has_left_goes_with_the_address(browser: Client, owner: User, administrator: User) -> None:
    path = confirmed(browser)
    give_phone(User.objects.get(pk=owner.pk), "Phone of the thief")
    events.send_recovery_links([owner], acting_user=administrator)
    life_cycle.delete_own_account(User.objects.get(pk=owner.pk))
    run_jobs()
    trail = Trail()
    assert undo(path).status_code == 303
    reason = "change of e-mail address undone by a mailed link"
    assert ("second_factor_removed", "accounts.user", "owner", reason) in trail.seen
    assert not RecoveryCodes.objects.exists()
    assert not RecoveryLink.objects.exists()
    assert User.objects.get(pk=owner.pk).erase_at is None
    message = mails_by_address()["owner@example.com"]
    nobody = Client()
    chosen = nobody.get(link_in(message), follow=True)
    nobody.post(chosen.request["PATH_INFO"], {"new_password1": OTHER, "new_password2": OTHER})
    assert sign_in(Client(), "owner", OTHER)["Location"] == "/accounts/profile/"


@pytest.mark.parametrize("thief_adds_one", [False, True])
def test_second_factors_of_before_outlast_an_undone_change(browser: Client, owner: User, thief_adds_one: bool) -> None:
    phone = give_phone(owner)
    path = confirmed(browser)
    if thief_adds_one:
        give_phone(User.objects.get(pk=owner.pk), "Phone of the thief")
    assert undo(path).status_code == 303
    assert factors.of(owner) == [phone.app]
    assert factors.codes_left(owner) == len(phone.recovery_codes)


def test_recovery_codes_that_a_thief_made_go_with_the_address(browser: Client, owner: User) -> None:
    phone = give_phone(owner)
    path = confirmed(browser)
    events.replace_codes(acting_user=owner)
    assert undo(path).status_code == 303
    assert factors.of(owner) == [phone.app]
    assert factors.codes_left(owner) == 0


def test_an_undo_link_works_once_and_two_clicks_do_no_harm(browser: Client, owner: User) -> None:
    path = confirmed(browser)
    first, second = Client(), Client()
    for one in (first, second):
        one.get(path)
    assert [one.post(UNDO).status_code for one in (first, second)] == [303, 303]
    assert len([job for job in jobs() if job[1][0] == "address_restored"]) == 1
    assert Client().get(path, follow=True).status_code == 404
    chosen = first.get(link_in(mails_by_address()["owner@example.com"]), follow=True)
    first.post(chosen.request["PATH_INFO"], {"new_password1": OTHER, "new_password2": OTHER})
    again = Client()
    sign_in(again, "owner", OTHER)
    again.get(asked(again, "elsewhere@example.com", OTHER))
    again.post(CONFIRM)
    assert undo(path).status_code == 404
    assert email_of(owner) == "elsewhere@example.com"


def test_a_new_password_does_not_end_it(browser: Client, owner: User) -> None:
    path = confirmed(browser)
    services.change_password(User.objects.get(pk=owner.pk), OTHER)
    assert undo(path).status_code == 303
    assert email_of(owner) == "owner@example.com"


def test_the_first_old_address_outlasts_a_chain_of_changes(browser: Client, owner: User) -> None:
    first = confirmed(browser)
    second = confirmed(browser, "third@example.com")
    assert undo(first).status_code == 303
    assert (email_of(owner), states(owner)) == ("owner@example.com", ["undone", "dropped"])
    assert undo(second).status_code == 404  # or the thief would take it again
    assert email_of(owner) == "owner@example.com"


def test_the_last_of_a_chain_is_undone_alone(browser: Client, owner: User) -> None:
    first = confirmed(browser)
    second = confirmed(browser, "third@example.com")
    assert undo(second).status_code == 303
    assert (email_of(owner), states(owner)) == (NEW, ["confirmed", "undone"])
    assert undo(first).status_code == 303
    assert email_of(owner) == "owner@example.com"


@pytest.mark.parametrize("what", ["days", "staff", "deleted"])
def test_an_undo_link_ends(browser: Client, owner: User, what: str) -> None:
    path = confirmed(browser)
    if what == "days":
        owner.address_changes.update(undo_until=timezone.now())
    elif what == "staff":
        move(owner, "set-by-staff@example.com")
    else:
        User.objects.update(deleted_at=timezone.now())
    before = email_of(owner)
    assert Client().get(path, follow=True).status_code == 404
    assert undo(path).status_code == 404
    assert email_of(owner) == before


def move(user: User, email: str) -> None:
    """Staff set another address."""
    current = User.objects.get(pk=user.pk)
    current.email = email
    services.save_user(current, changed=["email"], acting_user=current)


def test_what_staff_have_ended_no_later_change_brings_back(browser: Client, owner: User) -> None:
    path = confirmed(browser)
    move(owner, "set-by-staff@example.com")
    User.objects.update(email_verified_at=timezone.now())
    sign_in(browser, "owner")
    later = confirmed(browser, "later@example.com")
    assert undo(path).status_code == 404
    assert email_of(owner) == "later@example.com"
    assert undo(later).status_code == 303
    assert email_of(owner) == "set-by-staff@example.com"


def test_a_wish_ends_when_staff_set_another_address(browser: Client, owner: User) -> None:
    ask(browser)
    move(owner, "set-by-staff@example.com")
    assert states(owner) == ["dropped"] * 2
    assert NEW not in [message.to[0] for message in run_jobs()]


def test_sessions_end_for_good_when_staff_set_another_address(browser: Client, owner: User) -> None:
    move(owner, "set-by-staff@example.com")
    User.objects.update(email_verified_at=timezone.now())
    assert browser.get(EMAIL)["Location"] == f"{LOGIN}?next={EMAIL}"
    assert Record.objects.filter(action="session_ended", object_id=str(owner.pk)).exists()


def test_the_old_address_hears_that_staff_set_another(owner: User) -> None:
    move(owner, "set-by-staff@example.com")
    assert "@" not in str(jobs())
    mails = mails_by_address()
    assert set(mails) == {"owner@example.com", "set-by-staff@example.com"}
    message = mails["owner@example.com"]
    ((html, _kind),) = message.alternatives
    assert message.subject == "Your e-mail address was changed by an administrator"
    assert message.body.startswith("Hello owner,\n\nAn administrator has given your account")
    assert "tell whoever runs the site at once" in html
    assert "set-by-staff" not in message.body + html


def test_an_old_address_that_was_never_confirmed_hears_nothing(owner: User) -> None:
    User.objects.update(email_verified_at=None)
    move(owner, "set-by-staff@example.com")
    assert set(mails_by_address()) == {"set-by-staff@example.com"}


# --- the old address while it may return ------------------------------------------------------------


def sign_up(email: str, username: str = "newcomer") -> tuple[int, str]:
    browser = Client()
    browser.get("/accounts/signup/")
    response = browser.post("/accounts/signup/", {"username": username, "email": email, "password": PASSWORD})
    return response.status_code, response.get("Location", "")


def test_nobody_else_gets_the_old_address_while_it_may_return(browser: Client, owner: User) -> None:
    confirmed(browser)
    assert sign_up("Owner@example.com") == sign_up("free@example.com", "free-one") == (303, LOGIN)
    assert list(User.objects.filter(username="newcomer")) == []
    thief = UserFactory.create(username="thief")
    thief.email = "owner@example.com"
    with pytest.raises(AccountError) as refused:
        services.save_user(thief, changed=["email"], acting_user=owner)
    assert (refused.value.code, refused.value.field) == ("email_taken", "email")
    owner.address_changes.update(undo_until=timezone.now())
    assert sign_up("owner@example.com", "later") == (303, LOGIN)
    assert User.objects.filter(username="later").count() == 1


def test_another_account_asks_for_the_reserved_address_in_vain(browser: Client, owner: User, colleague: User) -> None:
    confirmed(browser)
    theirs = Client()
    sign_in(theirs, "colleague")
    theirs.get(asked(theirs, "owner@example.com"))
    assert "already belongs to an account" in text_of(theirs.post(CONFIRM, follow=True))
    assert email_of(colleague) == "colleague@example.com"


def test_the_owner_may_go_back_to_it(browser: Client, owner: User) -> None:
    confirmed(browser)
    confirmed(browser, "owner@example.com")
    assert (email_of(owner), states(owner)) == ("owner@example.com", ["confirmed", "confirmed"])


def test_the_admin_is_told_that_a_reserved_address_is_taken(
    browser: Client, admins_browser: Client, colleague: User
) -> None:
    confirmed(browser)
    path = f"/admin/accounts/user/{colleague.pk}/change/"
    response = admins_browser.post(path, {"username": "colleague", "email": "owner@example.com", "is_active": "on"})
    assert (response.status_code, codes(response.context["adminform"].form, "email")) == (200, ["email_taken"])


def test_what_is_over_is_cleaned_up_and_what_may_be_undone_is_not(browser: Client, owner: User) -> None:
    path = confirmed(browser)
    rule = retention.rules()["address_changes"]
    owner.address_changes.update(requested_at=F("requested_at") - addresses.kept_for())
    assert (rule.overdue(), undo(path).status_code) == (0, 303)
    retention.clean_up([rule])
    assert states(owner) == []


# --- at the same moment -----------------------------------------------------------------------------


def at_once(*calls: Callable[[], object]) -> list[str]:
    """Call them in threads of their own, all at the same moment; returns "" or the refusal's code for each."""
    barrier = threading.Barrier(len(calls))
    said = [""] * len(calls)

    def run(place: int, call: Callable[[], object]) -> None:
        try:
            barrier.wait()
            call()
        except AccountError as refusal:
            said[place] = refusal.code
        except Exception as error:  # shown by the assertion
            said[place] = repr(error)
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def change_of(user: User, email: str) -> str:
    """Ask for `email` and return the token that confirms it."""
    addresses.request_change(user, email)
    change = addresses.waiting(user)
    assert change is not None
    return links.confirm_address_url(change).split("/")[-2]


@pytest.mark.django_db(transaction=True)
def test_of_eight_wishes_at_once_five_are_taken_and_one_waits() -> None:
    user = UserFactory.create()
    wishes = [partial(addresses.request_change, user, f"new{number}@example.com") for number in range(8)]
    assert sorted(at_once(*wishes)) == [""] * 5 + ["address_changes_limit"] * 3
    assert sorted(states(user)) == ["dropped"] * 4 + ["waiting"]


@pytest.mark.django_db(transaction=True)
def test_of_eight_who_confirm_one_address_one_gets_it() -> None:
    people = [UserFactory.create() for _person in range(8)]
    tokens = [change_of(user, NEW) for user in people]
    said = at_once(*map(partial(partial, addresses.confirm_change), tokens, people))
    assert sorted(said) == ["", *["email_taken"] * 7]
    assert User.objects.filter(email_canonical=NEW).count() == 1


@pytest.mark.django_db(transaction=True)
def test_one_link_confirmed_eight_times_at_once_changes_once() -> None:
    user = UserFactory.create(email="old@example.com")
    token = change_of(user, NEW)
    assert at_once(*[partial(addresses.confirm_change, token, user)] * 8) == [""] * 8
    records = Record.objects.filter(resource="accounts.user", object_id=str(user.pk), action="update")
    assert records.count() == 1
    assert [job for job, _about in jobs()].count("send_address_changed") == 1


@pytest.mark.django_db(transaction=True)
def test_confirming_and_undoing_at_once_ends_with_the_old_address() -> None:
    for _round in range(4):
        user = UserFactory.create()
        addresses.confirm_change(change_of(user, f"{user.username}@new.example"), user)
        (change,) = user.address_changes.filter(state="confirmed")
        back = links.undo_address_url(change).split("/")[-2]
        user.refresh_from_db()
        forward = change_of(user, f"{user.username}@third.example")
        said = at_once(partial(addresses.confirm_change, forward, user), partial(addresses.undo_change, back))
        assert said in (["", ""], ["link_invalid", ""])
        assert email_of(user) == change.old_email
        assert not addresses.waiting(user)


@pytest.mark.django_db(transaction=True)
def test_a_signup_at_the_moment_of_the_change_does_not_get_the_old_address() -> None:
    for _round in range(4):
        user = UserFactory.create()
        old = user.email
        token = change_of(user, f"{user.username}@new.example")
        newcomer = services.SignUp(username=f"x{user.username}", email=old, password=PASSWORD, browser="b")
        said = at_once(partial(addresses.confirm_change, token, user), partial(services.sign_up, newcomer))
        assert said == ["", ""]
        assert not User.objects.filter(email=old).exists()
