"""Many people at once, by the admin's page: send a file, read the verdicts, confirm, let the worker write."""

from __future__ import annotations

import csv
import re
from io import BytesIO
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts import importing
from accounts.models import Import, Invitation, User
from auditlog.models import Record
from tests.accounts.conftest import jobs, run_jobs, text_of
from tests.accounts.test_roles import with_role

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/import/"
ADD = f"{LIST}add/"
CONTENT = "username,email,roles\nada,ada@example.com,Support\nowner,owner@example.com,\nx,short@example.com,\n"


def browser_of(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def send(browser: Client, content: str | bytes = CONTENT, kind: str = "users", **more: str) -> Any:
    whole = content.encode() if isinstance(content, str) else content
    return browser.post(ADD, {"kind": kind, "file": SimpleUploadedFile("people.csv", whole), **more})


def cells_of(page: str) -> list[list[str]]:
    """The table of verdicts, a list for each row."""
    rows = re.findall("<tr>(.*?)</tr>", page.partition("<tbody>")[2], re.DOTALL)
    return [re.findall("<td>(.*?)</td>", row) for row in rows]


def newest() -> Import:
    return Import.objects.latest("created_at")


def test_a_file_is_checked_confirmed_and_written_by_the_worker(owner: User) -> None:
    administrator = with_role("Administrator")
    browser = browser_of(administrator)
    assert "<code>full_name</code>" in text_of(browser.get(ADD))
    sent = send(browser)
    begun = newest()
    page = f"{LIST}{begun.pk}/change/"
    assert (sent.status_code, sent["Location"]) == (302, page)
    shown = text_of(browser.get(page))
    assert "Use at least 3 characters." in shown
    assert "Nothing is written yet." in shown
    assert "1 to do, 1 there already, 1 refused" in shown
    assert cells_of(shown) == [
        ["4", "x", "refused", "Use at least 3 characters."],
        ["2", "ada", "would be created", ""],
        ["3", "owner", "left alone", "There is such a person already."],
    ]
    assert "2,ada,ok,created,would be created" in text_of(browser.get(f"{LIST}{begun.pk}/report/"))
    assert (begun.counts, begun.state) == ({"ok": 1, "exists": 1, "refused": 1}, "checked")
    assert not User.objects.filter(username="ada").exists()
    assert jobs() == []

    assert browser.post(f"{LIST}{begun.pk}/start/")["Location"] == page
    assert jobs() == [("write_import", [str(begun.pk)])]
    assert "<progress" in text_of(browser.get(page))
    assert "to do" not in text_of(browser.get(page))
    assert run_jobs() == []
    begun.refresh_from_db()
    assert (begun.state, begun.counts, bytes(begun.content)) == ("done", {"ok": 1, "exists": 1, "refused": 1}, b"")
    ada = User.objects.get(username="ada")
    assert [group.name for group in ada.groups.all()] == ["Support"]
    record = Record.objects.get(resource="accounts.user", action="create", object_id=str(ada.pk))
    assert (record.actor_id, record.reason) == (str(administrator.pk), "import of people.csv")

    again = browser.post(f"{LIST}{begun.pk}/start/", follow=True)
    assert "This import was begun already." in text_of(again)
    assert "1 done, 1 there already, 1 refused" in text_of(again)
    assert cells_of(text_of(again))[1] == ["2", "ada", "created", ""]
    report = browser.get(f"{LIST}{begun.pk}/report/")
    rows = list(csv.reader(text_of(report).splitlines()))
    assert rows == [
        ["line", "who", "result", "code", "words"],
        ["2", "ada", "ok", "created", "created"],
        ["3", "owner", "exists", "exists", "There is such a person already."],
        ["4", "x", "refused", "username_too_short", "Use at least 3 characters."],
    ]


def test_an_import_that_was_interrupted_is_gone_on_with(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importing.BATCH, Import.Kind.USERS, 1)
    browser = browser_of(with_role("Administrator"))
    send(browser)
    begun = newest()
    browser.post(f"{LIST}{begun.pk}/start/")
    begun.refresh_from_db()
    next(importing.write(begun, _file(begun), acting_user=begun.started_by, keep_verdicts=True))  # and dies here
    importing.write_import.func(str(begun.pk))
    importing.write_import.func(str(begun.pk))
    begun.refresh_from_db()
    assert (begun.state, begun.position) == ("done", 3)
    assert [each["code"] for each in begun.verdicts] == ["created", "exists", "username_too_short"]


def _file(begun: Import) -> BytesIO:
    return BytesIO(begun.content)


def test_what_was_checked_is_discarded(owner: User) -> None:
    administrator = with_role("Administrator")
    browser = browser_of(administrator)
    send(browser)
    begun = newest()
    page = f"{LIST}{begun.pk}/change/"
    assert f'action="{LIST}{begun.pk}/discard/"' in text_of(browser.get(page))
    assert browser.get(f"{LIST}{begun.pk}/discard/").status_code == 405
    assert newest().state == "checked"

    shown = text_of(browser.post(f"{LIST}{begun.pk}/discard/", follow=True))
    assert "The file was discarded. Nothing was written." in shown
    assert "discarded, nothing was written" in shown
    assert "/discard/" not in shown and "/start/" not in shown and "ada" not in shown
    begun.refresh_from_db()
    assert (begun.state, bytes(begun.content), begun.verdicts, begun.counts) == ("discarded", b"", [], {})
    assert begun.ended_at is not None
    record = Record.objects.get(resource="accounts.import", action="update", object_id=str(begun.pk))
    assert (record.actor_id, record.object_label) == (str(administrator.pk), "people.csv")
    assert (record.before["state"], record.after["state"]) == ("checked", "discarded")

    for address in ("discard", "start"):
        again = browser.post(f"{LIST}{begun.pk}/{address}/", follow=True)
        assert "This import was discarded." in text_of(again)
    importing.write_import.func(str(begun.pk))
    assert jobs() == []
    assert not User.objects.filter(username="ada").exists()


def test_what_was_begun_is_not_discarded(owner: User) -> None:
    browser = browser_of(with_role("Administrator"))
    send(browser)
    begun = newest()
    browser.post(f"{LIST}{begun.pk}/start/")
    again = browser.post(f"{LIST}{begun.pk}/discard/", follow=True)
    assert "This import was begun already." in text_of(again)
    assert (newest().state, bytes(newest().content)) == ("queued", CONTENT.encode())


def test_only_whoever_may_start_it_discards_it(owner: User, admins_browser: Client) -> None:
    administrator = with_role("Administrator")
    browser = browser_of(administrator)
    send(browser)
    address = f"{LIST}{newest().pk}/discard/"
    assert browser_of(with_role("Administrator")).post(address).status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(administrator)
    assert strict.post(address).status_code == 403
    administrator.groups.set(Group.objects.filter(name="Support"))
    assert browser.post(address).status_code == 403, "who imports nobody any more decides nothing about it"
    assert newest().state == "checked"
    admins_browser.post(address)
    assert newest().state == "discarded"


def test_whoever_lost_the_right_meanwhile_imports_nothing(owner: User) -> None:
    administrator = with_role("Administrator")
    browser = browser_of(administrator)
    send(browser)
    browser.post(f"{LIST}{newest().pk}/start/")
    administrator.groups.set(Group.objects.filter(name="Support"))
    run_jobs()
    assert (newest().state, newest().code) == ("failed", "import_rights_lost")
    assert not User.objects.filter(username="ada").exists()
    assert "may not do so any more" in text_of(browser.get(f"{LIST}{newest().pk}/change/"))


def test_support_invites_but_imports_no_people(owner: User) -> None:
    browser = browser_of(with_role("Support"))
    assert send(browser).status_code == 422
    assert "update" not in browser.get(ADD).context["form"].fields
    sent = send(browser, "email,note\nnew@example.com,Hello\nowner@example.com,\n", "invitations")
    assert sent.status_code == 302
    assert newest().counts == {"ok": 1, "exists": 0, "refused": 1}
    browser.post(f"{LIST}{newest().pk}/start/")
    (message,) = run_jobs()
    assert message.to == ["new@example.com"]
    assert Invitation.objects.get().invited_by == newest().started_by


def test_nobody_sees_anothers_import_but_superusers(owner: User, admins_browser: Client) -> None:
    send(browser_of(with_role("Administrator")))
    begun, other = newest(), browser_of(with_role("Administrator"))
    for address in ("change/", "report/"):
        assert admins_browser.get(f"{LIST}{begun.pk}/{address}").status_code == 200
        assert other.get(f"{LIST}{begun.pk}/{address}").status_code in (302, 404)
    assert other.post(f"{LIST}{begun.pk}/start/").status_code == 404
    assert "people.csv" not in text_of(other.get(LIST))
    assert newest().state == "checked"


@pytest.mark.parametrize("role", ["Member", "Auditor"])
def test_others_import_nothing(role: str) -> None:
    browser = browser_of(with_role(role))
    assert browser.get(ADD).status_code == 403
    assert send(browser).status_code == 403
    assert browser.get(LIST).status_code == 403


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file_empty"),
        (b"username,email\n", "file_nobody"),
        (b"username,email\n,\n\n", "file_nobody"),
        (b"username,email\nada,a\0a@example.com\n", "file_nul"),
        (b"username,email\n\xff\xfe,x\n", "file_not_utf8"),
        (b"name,email\nada,ada@example.com\n", "file_columns_unknown"),
        (b"username,email\n" + b"ada,ada@example.com\n" * 4, "file_too_many_rows"),
    ],
)
def test_a_file_with_a_fault_is_explained_beside_the_field(content: bytes, code: str, settings: Any) -> None:
    settings.IMPORT_PAGE_ROWS = 3
    answer = send(browser_of(with_role("Administrator")), content)
    assert answer.status_code == 422
    assert [error.code for error in answer.context["form"].errors.as_data()["file"]] == [code]
    assert not Import.objects.exists()


def test_a_file_of_more_than_a_megabyte_is_too_large() -> None:
    assert send(browser_of(with_role("Administrator")), b"x" * 1_100_000).status_code == 413


def test_a_form_that_makes_no_sense_is_refused(admins_browser: Client) -> None:
    assert send(admins_browser, "email\na@example.com\n", "invitations", mail="on").status_code == 422
    assert send(admins_browser, kind="nonsense").status_code == 422
    assert admins_browser.post(ADD, {"kind": "users", "file": "no file"}).status_code == 422
    for odd in ("x", "00000000-0000-0000-0000-000000000000", "_00"):
        assert admins_browser.post(f"{LIST}{odd}/start/").status_code in (400, 404)
        assert admins_browser.get(f"{LIST}{odd}/report/").status_code in (400, 404)
    assert not Import.objects.exists()


def test_the_name_of_a_file_is_only_a_name(owner: User, admins_browser: Client) -> None:
    admins_browser.post(
        ADD, {"kind": "users", "file": SimpleUploadedFile("..\\<b>x</b>.csv", CONTENT.encode(), "text/csv")}
    )
    assert newest().file_name in ("b>.csv", "<b>x<b>.csv", "<b>x</b>.csv")
    assert "<b>x" not in text_of(admins_browser.get(LIST))
