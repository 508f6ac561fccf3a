"""``manage.py stats``: the figures as a table, for programs, live, and while the database is away."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import sampling, stats
from accounts.models import EventDay, Redemption, User
from accounts.stats import Figure
from accounts.stats_text import as_text
from tests.accounts.conftest import failures
from tests.factories import InvitationFactory, UserFactory
from tests.live import PATIENCE, ROOT, wait_until

pytestmark = pytest.mark.django_db
KEYS = {
    "users": {"total", "active", "deactivated", "scheduled", "erased", "unconfirmed", "staff", "superusers"},
    "signups": {"per_day", "signups", "verified", "invited", "added"},
    "logins": {"succeeded", "failed"},
    "lockouts": {"standing", "begun"},
    "invitations": {"total", "open", "used", "expired", "revoked"},
    "funnel": {"made", "sent", "opened", "accepted", "people", "waiting", "expired", "revoked"},
}


def shown(*arguments: str) -> str:
    out = StringIO()
    call_command("stats", *arguments, stdout=out)
    return out.getvalue()


def facts(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown("--json", *arguments))
    return found


def values(section: str) -> dict[str, Any]:
    return {name: figure["value"] for name, figure in facts()[section].items()}


# What it says


def test_programs_find_every_figure_by_its_name() -> None:
    found = facts()
    assert next(iter(found)) == "at"
    assert {name: set(found[name]) for name in KEYS} == KEYS
    assert all("estimated" in figure for name in KEYS for figure in found[name].values())


def test_users_are_counted_exactly_while_they_are_few() -> None:
    UserFactory.create(is_staff=True)
    UserFactory.create(is_active=False)
    UserFactory.create(email_verified_at=None)
    UserFactory.create(is_staff=True, is_superuser=True)
    UserFactory.create(is_active=False, email_verified_at=None, deleted_at=timezone.now())  # and nothing else any more
    for active in (True, False):
        UserFactory.create(is_active=active, erase_at=timezone.now() + timedelta(days=3))
    assert values("users") == {
        "total": 6,
        "active": 3,
        "deactivated": 1,
        "scheduled": 2,
        "erased": 1,
        "unconfirmed": 1,
        "staff": 2,
        "superusers": 1,
    }
    assert not any(figure["estimated"] for figure in facts()["users"].values())


def test_signups_are_shown_for_each_day_and_over_periods() -> None:
    for days in (0, 1, 1):
        UserFactory.create(created_at=timezone.now() - timedelta(days=days))
    found = facts()["signups"]
    assert list(found["per_day"]["value"].values())[-3:] == [0, 2, 1]
    assert len(found["per_day"]["value"]) == 30
    assert found["signups"]["value"] == {"today": 1, "days_7": 3, "days_30": 3}


def test_sign_ins_are_added_up_over_periods_and_no_further() -> None:
    today = stats._today()
    for ago, count in ((0, 1), (6, 10), (7, 100), (29, 1000), (30, 10_000)):
        EventDay.objects.create(day=today - timedelta(days=ago), event="login", count=count)
        EventDay.objects.create(day=today - timedelta(days=ago), event="locked_out", count=2 * count)
    assert values("logins")["succeeded"] == {"today": 1, "days_7": 11, "days_30": 1111}
    assert values("lockouts")["begun"] == {"today": 2, "days_7": 22, "days_30": 2222}


def test_accounts_that_are_locked_now_are_counted(stranger: Any, owner: User) -> None:
    assert values("lockouts")["standing"] == 0
    failures(stranger, 5)
    assert values("lockouts")["standing"] == 1


@pytest.mark.parametrize(
    ("stored", "name", "label"),
    [
        ("bcrypt_sha256$$2b$12$saltsaltsaltsaltsaltsOdigest", "bcrypt_12", "bcrypt, work factor 12"),
        ("argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$ZGlnZXN0", "argon2id_m=102400,t=2,p=8", "argon2id, m=102400"),
        ("scrypt$16384$salt$8$1$digest", "scrypt_16384", "scrypt, 16384"),
        ("pbkdf2_sha256$870000$salt$digest", "pbkdf2_sha256_870000", "pbkdf2_sha256, 870000"),
        ("!unusable", "none", "no password"),
        ("", "none", "no password"),
        ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "other", "another kind"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "other", "another kind"),
    ],
)
def test_hashes_are_told_apart_and_nothing_of_them_is_shown(stored: str, name: str, label: str) -> None:
    user = UserFactory.create()
    User.objects.filter(pk=user.pk).update(password=stored)
    assert values("passwords") == {name: 1.0}
    text = shown()
    assert label in text
    for secret in ("salt", "digest", "c2FsdA", "5f4dcc3b"):
        assert secret not in text and secret not in shown("--json")


def test_invitations_are_counted_by_state_and_by_how_far_they_came(inviter: User) -> None:
    ago = timezone.now() - timedelta(days=1)
    InvitationFactory.create()
    InvitationFactory.create(expires_at=ago)
    InvitationFactory.create(revoked_at=ago)
    InvitationFactory.create(uses=1)
    InvitationFactory.create(uses=3, max_uses=9, expires_at=ago)
    InvitationFactory.create(created_at=timezone.now() - timedelta(days=31))
    assert values("invitations") == {"total": 6, "open": 2, "used": 1, "expired": 2, "revoked": 1}
    assert values("funnel") == {
        "made": 5, "sent": 5, "opened": 2, "accepted": 2, "people": 4, "waiting": 1, "expired": 1, "revoked": 1,
    }  # fmt: skip


def test_other_parts_add_figures_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_sections", dict(stats._sections))
    share = Figure(name="share", label="done in time", value=0.25, is_share=True)
    stats.register("chores", "Chores", lambda: [share])
    assert facts()["chores"] == {"share": {"value": 0.25, "estimated": False}}
    assert re.search(r"CHORES\n.*done in time +25\.0 %", shown("--only", "chores"))
    with pytest.raises(ValueError, match="chores"):
        stats.register("chores", "Chores", lambda: [share])


def test_only_some_figures_can_be_asked_for() -> None:
    with CaptureQueriesContext(connection) as asked:
        assert set(facts("--only", "logins")) == {"at", "logins"}
    assert len(asked) == 1
    with pytest.raises(CommandError, match="no figures called nonsense; there are users"):
        shown("--only", "nonsense")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "1e9"])
def test_odd_pauses_are_refused(seconds: str) -> None:
    with pytest.raises(CommandError, match=r"from 0\.2 to 3600"):
        shown("--watch", seconds)


def test_as_many_people_as_one_cost_as_many_queries() -> None:
    counts = []
    for _turn in range(3):  # the first fills caches
        for _person in range(4):
            UserFactory.create()
            invitation = InvitationFactory.create(uses=1)
            Redemption.objects.create(invitation=invitation, username="somebody")
        with CaptureQueriesContext(connection) as asked:
            shown()
        counts.append(len(asked))
    assert counts[1] == counts[2] <= 21


# Large tables


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a table be large from its tenth row on, and a sample every page."""
    monkeypatch.setattr(sampling, "WHOLE_UP_TO", 10)


def test_large_tables_are_sampled_and_say_so(sampled: None) -> None:
    for number in range(40):
        UserFactory.create(email_verified_at=None if number % 2 else timezone.now())
    found = facts()["users"]
    assert (found["unconfirmed"]["value"], found["unconfirmed"]["estimated"]) == (20, True)
    assert found["total"] == {"value": 40, "estimated": True, "margin": None}
    assert found["staff"]["estimated"] is False
    text = shown()
    assert re.search(r"total +about 40", text)
    assert re.search(r"not confirmed +20 ±\d+", text)
    assert "estimated from a sample" in text


def test_the_margin_of_a_sample_is_that_of_its_pages() -> None:
    """Pages whose rows are all alike tell as much as one row each does."""
    alike = sampling.Sample(10_000, False, [{(page % 2 == 0,): 10} for page in range(100)])
    mixed = sampling.Sample(10_000, False, [{(True,): 5, (False,): 5} for page in range(100)])
    assert alike.share(bool).value == mixed.share(bool).value == 0.5
    assert alike.share(bool).margin == pytest.approx(1.96 * (0.25 / 99) ** 0.5)
    assert mixed.share(bool).margin == pytest.approx(3 / 1000)  # as good as nothing
    nothing = sampling.Sample(10_000, False, [{(False,): 10} for page in range(100)])
    assert nothing.share(bool) == sampling.Share(0.0, 0.03)
    assert sampling.Sample(0, True, []).share(bool) == sampling.Share(0.0, 0.0)


# How it looks


@pytest.mark.parametrize("width", [20, 40, 72, 80, 100, 200])
@pytest.mark.parametrize("plain", [True, False])
def test_no_line_is_wider_than_the_page(width: int, plain: bool) -> None:
    UserFactory.create()
    InvitationFactory.create(uses=1)
    EventDay.objects.create(day=stats._today(), event="login", count=12_345_678)
    lines = as_text(stats.take(), timezone.now(), width=width, plain=plain)
    assert max(map(len, lines)) <= min(width, 100)
    assert "12.35 M" in "\n".join(lines) or width < 32
    assert "\n".join(lines).isascii() is plain


def test_a_chart_has_a_bar_for_each_day() -> None:
    for days, people in ((0, 3), (1, 1)):
        for _person in range(people):
            UserFactory.create(created_at=timezone.now() - timedelta(days=days))
    lines = as_text({"signups": stats.signups()}, timezone.now())
    title = next(place for place, line in enumerate(lines) if line.startswith("SIGNUPS per day"))
    assert "4 in 30 days, at most 3" in lines[title]
    bars = [f"{line:<60}"[-4:] for line in lines[title + 1 : title + 4]]
    assert bars == ["  ██", "  ██", "████"]


# Real processes


def environment(**more: str) -> dict[str, str]:
    """That of the tests, for a process which uses their database."""
    address = {"DATABASE_URL": _address(), "DATABASE_DIRECT_URL": ""}
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **address, **more}


def _address() -> str:
    about = connection.get_connection_params()
    return f"postgresql://{about['user']}@/{about['dbname']}?host={about['host']}&port={about.get('port', 5432)}"


def manage(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"{ROOT}/manage.py", *arguments]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True)


def test_a_database_that_is_away_is_one_line_and_exit_code_3() -> None:
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    done = manage("stats", "--json", **nowhere)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.strip().count("\n") == 0
    assert "The database does not answer" in done.stderr


def test_in_a_pipe_a_watch_prints_one_block_after_the_other() -> None:
    command = [sys.executable, f"{ROOT}/manage.py", "stats", "--watch", "0.2", "--json"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        lines = [watch.stdout.readline() for _block in range(3)]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(PATIENCE) == 0
    assert all("users" in json.loads(line) for line in lines)


class Screen:
    """A terminal of a given size with `stats --watch` on it."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.master, self.process, self.seen = master, process, ""

    def read(self) -> str:
        while True:
            try:
                self.seen += os.read(self.master, 65536).decode()
            except (BlockingIOError, OSError):
                return self.seen

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)  # as the kernel does for the terminal that one sits at


@contextmanager
def watching(columns: int, lines: int) -> Iterator[Screen]:
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    command = [sys.executable, f"{ROOT}/manage.py", "stats", "--watch", "600"]
    without = {name: value for name, value in environment(TERM="xterm").items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(command, env=without, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        yield Screen(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_watch_redraws_in_place_fits_the_terminal_and_gives_it_back() -> None:
    with watching(80, 24) as screen:
        wait_until(lambda: "\x1b[J" in screen.read(), "the figures are drawn")
        first = screen.seen
        assert first.startswith("\x1b[?1049h\x1b[?25l")
        assert first.count("\n") == 23
        screen.seen = ""
        screen.resize(40, 60)  # long before the next ten minutes are over
        wait_until(lambda: "\x1b[J" in screen.read(), "they are drawn anew")
        plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", screen.seen)
        assert max(map(len, plain.split("\r\n"))) <= 40
        screen.seen = ""
        screen.process.send_signal(signal.SIGINT)  # Ctrl-C
        wait_until(lambda: screen.process.poll() is not None, "it ends")
        assert screen.process.returncode == 0
        assert "\x1b[?25h\x1b[?1049l" in screen.read()


def test_a_watch_that_is_told_to_end_gives_the_terminal_back_too() -> None:
    with watching(80, 24) as screen:
        wait_until(lambda: "\x1b[J" in screen.read(), "the figures are drawn")
        screen.process.terminate()
        wait_until(lambda: screen.process.poll() is not None, "it ends")
        assert screen.read().endswith("\x1b[?25h\x1b[?1049l")
