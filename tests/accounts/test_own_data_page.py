"""/accounts/data/: a copy of all that is kept about oneself, made by the worker, for its owner, for a while."""

from __future__ import annotations

import io
import json
import threading
import tracemalloc
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import F
from django.test import Client, RequestFactory
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from accounts import activity, addresses, exporting, services
from accounts.errors import AccountError
from accounts.models import DataExport, DataExportPiece, Redemption, User
from auditlog import acting_as
from auditlog.context import Context, in_context
from auditlog.models import Record
from config import retention
from config.worker import Worker
from tests.accounts.conftest import failures, jobs, run_jobs, sign_in, text_of
from tests.factories import PASSWORD, InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db
DATA = "/accounts/data/"


@pytest.fixture
def browser(owner: User) -> Client:
    signed_in = Client()
    sign_in(signed_in, "owner", REMOTE_ADDR="192.0.2.1", HTTP_USER_AGENT="Firefox/128")
    return signed_in


def ask(browser: Client) -> int:
    return int(browser.post(DATA).status_code)


def made(browser: Client, owner: User) -> str:
    """Ask for a copy, let the worker make it, and return its address."""
    assert ask(browser) == 303
    run_jobs()
    return f"{DATA}{DataExport.objects.get(user=owner, state='ready').pk}/"


def unpacked(response: Any) -> dict[str, Any]:
    content = b"".join(response.streaming_content)
    assert int(response["Content-Length"]) == len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        files = {name.removeprefix("gatehouse/"): archive.read(name).decode() for name in archive.namelist()}
    lines = files.pop("activity.jsonl").splitlines()
    about = {name: json.loads(text) for name, text in files.items() if name.endswith(".json")}
    return {**about, "README.txt": files["README.txt"], "activity": [json.loads(line) for line in lines]}


def test_from_asking_to_the_file(browser: Client, owner: User) -> None:
    response = browser.post(DATA)
    assert (response.status_code, response["Location"]) == (303, DATA)
    page = text_of(browser.get(DATA))
    assert "We are putting your data together" in page
    assert "Being made" in page
    (message,) = run_jobs()
    assert (message.to, message.subject) == (["owner@example.com"], "Your data is ready")
    assert "http://localhost:8000/accounts/data/" in message.body
    assert "It is kept for 48 hours." in message.body
    export = DataExport.objects.get()
    path = f"{DATA}{export.pk}/"
    packed = {"Accept-Encoding": "gzip"}
    assert f'href="{path}"' in text_of(browser.get(DATA))
    assert browser.get(DATA, headers=packed)["Content-Encoding"] == "gzip"
    answer = browser.get(path, headers=packed)  # as it is: `unpacked` wants its length too
    assert answer["Content-Disposition"] == f'attachment; filename="gatehouse-{export.made_at:%Y%m%d-%H%M%S}.zip"'
    assert (answer["Content-Type"], "no-store" in answer["Cache-Control"]) == ("application/zip", True)
    of_the_sample_apps = {"machines.json", "queries.json", "tasks.json"}
    assert sorted(set(unpacked(answer)) - of_the_sample_apps) == [
        "README.txt", "account.json", "activity", "invitations.json", "profile.json", "roles.json",
        "second-factors.json", "sessions.json",
    ]  # fmt: skip
    happened = Record.objects.filter(object_id=str(owner.pk), action__startswith="data_").order_by("id")
    assert [record.action for record in happened] == ["data_asked", "data_made", "data_downloaded"]
    assert [record.actor_id for record in happened][::2] == [str(owner.pk)] * 2
    assert "Downloaded the copy of their data" in text_of(browser.get("/accounts/activity/"))


def test_it_holds_what_is_kept_about_its_owner(browser: Client, owner: User, colleague: User) -> None:
    owner.bio, owner.time_zone = "Ünïcode 🙈", "Europe/Berlin"
    with acting_as(owner):
        owner.save()
        mine = InvitationFactory.create(email="ada@example.com", invited_by=owner, roles=["Member"])
    came = InvitationFactory.create(invited_by=colleague, note="Come in", max_uses=2)
    Redemption.objects.create(invitation=came, user=owner, username="owner")
    owner.groups.add(Group.objects.get(name="Support"))
    addresses.request_change(owner, "new@example.com")
    run_jobs()
    held = unpacked(browser.get(made(browser, owner)))
    account = held["account.json"]
    assert (account["id"], account["username"], account["email"]) == (str(owner.pk), "owner", "owner@example.com")
    (change,) = account["address_changes"]
    assert (change["from"], change["to"], change["state"]) == ("owner@example.com", "new@example.com", "waiting")
    assert held["profile.json"] == {
        "full_name": "Olivia Owner",
        "bio": "Ünïcode 🙈",
        "avatar_url": "",
        "time_zone": "Europe/Berlin",
        "language": "",
    }
    assert held["roles.json"] == {"roles": ["Support"], "is_staff": False, "is_superuser": False}
    (sent,) = held["invitations.json"]["made"]
    assert (sent["email"], sent["roles"], sent["state"]) == ("ada@example.com", ["Member"], mine.state)
    redeemed = held["invitations.json"]["redeemed"]
    assert (redeemed["invited_by"], redeemed["note"]) == ("colleague", "Come in")
    login = next(line for line in held["activity"] if line["action"] == "login")
    assert (login["by"], login["address"], login["browser"]) == ("you", "192.0.2.1", "Firefox/128")
    edited = next(line for line in held["activity"] if line["action"] == "update" and "bio" in line["new"])
    assert edited["new"]["bio"] == "Ünïcode 🙈"


def test_no_secret_and_nothing_of_others_is_in_it(browser: Client, owner: User, colleague: User) -> None:
    keeper = UserFactory.create(username="secret-keeper", is_superuser=True)
    request = RequestFactory(REMOTE_ADDR="198.51.100.77", HTTP_USER_AGENT="Staffari").get("/")
    request.user = keeper
    with in_context(Context(request=request, reason="internal reason")):
        owner.full_name = "Changed by staff"
        owner.save()
    with acting_as(owner):
        invitation = InvitationFactory.create(email="ada@example.com", invited_by=owner)
        colleague.full_name = "Somebody’s Secret"
        colleague.save()
    before = User.objects.get(pk=owner.pk)
    services.change_password(before, "Another-Horse-8-Battery")
    browser.force_login(User.objects.get(pk=owner.pk), "accounts.backends.IdentityBackend")
    held = json.dumps(unpacked(browser.get(made(browser, owner))), ensure_ascii=False)
    assert "Changed by staff" in held
    now = User.objects.get(pk=owner.pk)
    secrets = [before.password, now.password, PASSWORD, str(invitation.nonce), str(browser.session.session_key)]
    secrets += ["secret-keeper", "198.51.100.77", "Staffari", "internal reason", "Somebody’s Secret", "masked"]
    assert [secret for secret in secrets if secret in held] == []
    assert '"password": "(not shown)"' in held


def test_nobody_else_gets_it(browser: Client, owner: User, colleague: User, admins_browser: Client) -> None:
    path = made(browser, owner)
    theirs = Client()
    theirs.force_login(colleague)
    assert [other.get(path).status_code for other in (theirs, admins_browser)] == [404, 404]
    assert Client().get(path)["Location"] == f"/accounts/login/?next={DATA}"
    assert Client().get(DATA)["Location"] == f"/accounts/login/?next={DATA}"
    assert theirs.get(DATA).context["exports"] == []
    assert not Record.objects.filter(action="data_downloaded").exists()


@pytest.mark.parametrize("method", ["head", "post", "put", "delete"])
def test_only_a_get_downloads(browser: Client, owner: User, method: str) -> None:
    path = made(browser, owner)
    assert getattr(browser, method)(path).status_code == 405
    assert not Record.objects.filter(action="data_downloaded").exists()


def test_it_expires_and_is_cleaned_up(browser: Client, owner: User) -> None:
    path = made(browser, owner)
    rules = [retention.rules()[name] for name in ("data_export_pieces", "data_exports")]
    retention.clean_up(rules)
    assert browser.get(path).status_code == 200
    DataExport.objects.update(expires_at=timezone.now())
    assert browser.get(path).status_code == 404
    assert "Not kept any more." in text_of(browser.get(DATA))
    retention.clean_up(rules)
    assert (DataExport.objects.count(), DataExportPiece.objects.count()) == (1, 0)  # it counts for today
    DataExport.objects.update(asked_at=F("asked_at") - exporting.kept_for())
    retention.clean_up(rules)
    assert DataExport.objects.count() == 0


def test_one_at_a_time_and_a_few_a_day(browser: Client, owner: User) -> None:
    assert ask(browser) == 303
    refused = browser.post(DATA)
    assert (refused.status_code, "put together already" in text_of(refused)) == (409, True)
    assert len(jobs()) == 1
    run_jobs()
    for _more in range(exporting.MOST_A_DAY - 1):
        made(browser, owner)
    assert list(DataExport.objects.order_by("asked_at").values_list("state", flat=True)) == ["over", "over", "ready"]
    assert set(DataExportPiece.objects.values_list("export__state", flat=True)) == {"ready"}
    assert "3 times a day" in text_of(browser.post(DATA))
    DataExport.objects.update(asked_at=F("asked_at") - timedelta(days=1))
    assert ask(browser) == 303


def test_asking_needs_a_token(owner: User) -> None:
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(owner)
    assert (ask(forger), DataExport.objects.count()) == (403, 0)


def test_what_fails_is_said_and_tried_again(browser: Client, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(user: User) -> None:
        raise RuntimeError("a part is broken")

    monkeypatch.setitem(exporting._parts, "broken", broken)
    assert ask(browser) == 303
    job = DBTaskResult.objects.ready().get()
    worker = Worker(once=True)
    job.claim(worker.worker_id)
    worker.run_task(job)
    assert (DataExport.objects.get().state, DataExportPiece.objects.count()) == ("failed", 0)
    page = text_of(browser.get(DATA))
    assert "Not made yet" in page
    assert "a part is broken" not in page
    monkeypatch.delitem(exporting._parts, "broken")
    DBTaskResult.objects.update(run_after=timezone.now())
    assert [message.subject for message in run_jobs()] == ["Your data is ready"]
    assert DataExport.objects.get().state == "ready"


def test_who_asks_anew_after_a_failure_gets_one_copy(browser: Client, owner: User) -> None:
    assert ask(browser) == 303
    DataExport.objects.update(state="failed")
    assert ask(browser) == 303
    assert [message.subject for message in run_jobs()] == ["Your data is ready"]
    assert sorted(DataExport.objects.values_list("state", flat=True)) == ["over", "ready"]


def test_an_earlier_copy_is_there_until_the_new_one_is(browser: Client, owner: User) -> None:
    path = made(browser, owner)
    assert ask(browser) == 303
    assert browser.get(path).status_code == 200
    run_jobs()
    assert browser.get(path).status_code == 404
    assert sorted(DataExport.objects.values_list("state", flat=True)) == ["over", "ready"]


def test_the_job_may_run_twice(browser: Client, owner: User) -> None:
    path = made(browser, owner)
    export = DataExport.objects.get()
    exporting.make_data_export.call(str(export.pk))
    assert DataExport.objects.get() == export
    assert jobs() == []
    assert browser.get(path).status_code == 200


def test_nothing_is_made_for_who_is_gone(browser: Client, owner: User) -> None:
    assert ask(browser) == 303
    User.objects.update(deleted_at=timezone.now())
    assert run_jobs() == []
    assert DataExportPiece.objects.count() == 0


def test_a_part_may_be_added_once(monkeypatch: pytest.MonkeyPatch, browser: Client, owner: User) -> None:
    monkeypatch.setattr(exporting, "_parts", dict(exporting._parts))
    exporting.register("notes", lambda user: {"of": user.username})
    with pytest.raises(ValueError, match="notes"):
        exporting.register("notes", str)
    assert unpacked(browser.get(made(browser, owner)))["notes.json"] == {"of": "owner"}


def history_of(user: User, length: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(auditlog_record_event('login', 'accounts.user', %s, 'owner', NULL, NULL, NULL))"
            " FROM generate_series(1, %s)",
            [str(user.pk), length],
        )


def test_memory_does_not_grow_with_the_history(browser: Client, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PIECE", 1024)
    monkeypatch.setattr(activity, "BATCH", 100)

    def peak() -> int:
        DataExport.objects.all().delete()
        export = DataExport.objects.create(user=owner)
        tracemalloc.start()
        assert exporting.make(str(export.pk))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    history_of(owner, 500)
    small = peak()
    history_of(owner, 2500)
    assert peak() < 1.5 * small
    sizes = [len(piece.content) for piece in DataExportPiece.objects.order_by("number")]
    assert len(sizes) > 1
    assert set(sizes[:-1]) == {1024}


def test_a_very_long_history_is_cut_and_the_file_says_so(
    browser: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MOST_RECORDS", 3)
    failures(Client(), 4)
    told = unpacked(browser.get(made(browser, owner)))["activity"]
    assert len(told) == 4
    assert told[-1] == {"note": "There is more; these are the newest 3."}


@pytest.mark.django_db(transaction=True)
def test_of_many_clicks_at_once_one_asks_and_of_two_workers_one_makes() -> None:
    user = UserFactory.create()
    said = at_once(6, lambda: exporting.ask_for_data(user))
    assert sorted(said) == ["", *["data_export_waiting"] * 5]
    export = DataExport.objects.get()
    assert at_once(2, lambda: exporting.make_data_export.call(str(export.pk))) == ["", ""]
    assert Record.objects.filter(action="data_made").count() == 1
    assert [name for name, _about in jobs()].count("send_mail_to_user") == 1


def at_once(times: int, call: Any) -> list[str]:
    """Call in so many threads at the same moment; returns "" or the refusal's code for each."""
    barrier, said = threading.Barrier(times), [""] * times

    def run(place: int) -> None:
        try:
            barrier.wait()
            call()
        except AccountError as refusal:
            said[place] = refusal.code
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[place]) for place in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said
