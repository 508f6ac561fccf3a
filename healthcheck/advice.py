"""What to say to people: what is checked, what a code means, and what to do next. All of it is in this one place.

A check of another app is told in general words, or in those that `tell` was given for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from healthcheck import registry
from healthcheck.results import Status

HEADLINES = {
    Status.PASS: _("All is well"),
    Status.WARN: _("Working, with warnings"),
    Status.FAIL: _("Not working"),
}
# To strangers, who can do nothing about it.
ASSURANCES = {
    Status.PASS: _("Every page can be used as usual."),
    Status.WARN: _("Every page can be used. Something behind them needs a look, and whoever runs the site can see it."),
    Status.FAIL: _("Pages may not open just now. Please come back in a few minutes: nothing that was saved is lost."),
}
WORDS = {Status.PASS: _("fine"), Status.WARN: _("warning"), Status.FAIL: _("failing")}
# What a check found although all is well.
NOTES = {
    "none": _("none is set up"),
    "not_visible": _("not visible to us"),
    "no_server": _("no server is needed"),
    "one_role": _("one database role does it all"),
}
# What the probes ask themselves; other checks bring their labels.
LABELS = {
    "database": _("Database"),
    "migrations": _("Tables of this version"),
    "draining": _("Open to visitors"),
    "overall": _("The whole site"),
}


@dataclass(frozen=True)
class Advice:
    """What a finding means, and what to do next; both are sentences."""

    meaning: Any  # str or lazy translation
    next_step: Any


_LOOK = Advice(
    _("The check found something wrong."),
    _("The log of the worker tells more: search it for the name of the check."),
)
# What can be wrong with any check, whatever it is about.
_GENERAL = {
    "not_run": Advice(
        _("It has not been checked for a while, so nobody knows."),
        _("The worker runs the checks. Look whether it runs: “manage.py worker”; “manage.py serve” starts it too."),
    ),
    "timeout": Advice(
        _("What is checked did not answer in time."),
        _("Look whether it runs and can be reached from this host, or hangs; then wait for the next reading."),
    ),
    "error": Advice(_("The check itself failed."), _("The log of the worker has the reason, with the check's name.")),
    "unknown": Advice(
        _("Nobody can tell while the database does not answer."), _("Look after the database first; this follows.")
    ),
}
_ADVICE = {
    ("database", "no_answer"): Advice(
        _("The database does not answer, or not in time. Pages that need it cannot be shown."),
        _(
            "Look whether the database server runs and can be reached from this host: “manage.py database status”. "
            "The site comes back by itself as soon as it answers; nothing has to be started again."
        ),
    ),
    ("migrations", "not_applied"): Advice(
        _("The code is newer than the database: tables or columns that it needs are missing."),
        _("Run “manage.py migrate”. Until then this host should get no visitors."),
    ),
    ("draining", "draining"): Advice(
        _("Somebody told this host to take no new visitors, as before maintenance. Who comes is still answered."),
        _("When the work is done: “manage.py health drain --off” on this host."),
    ),
    ("overall", ""): Advice(
        _("Visitors could not use the site."), _("The incident of the same time below or above this one says why.")
    ),
    ("response", ""): Advice(
        _("The database takes long to answer, so every page does."),
        _("Look at its processor and disk, and on the page “Tables” for statements that run for long."),
    ),
    ("connections", ""): Advice(
        _("Most of the sessions that the database server allows are taken. Without a free one, pages fail."),
        _(
            "Look at the sessions by state on the page “Database”: many that are idle in a transaction point to a "
            "program that hangs. Else run fewer processes or threads, put a pooler such as PgBouncer in between, or "
            "let the server have more."
        ),
    ),
    ("replicas", ""): Advice(
        _("A copy of the database is behind, so that what is read there may be old."),
        _("Look at the network between the two servers, and for long queries on the copy that hold it up."),
    ),
    ("replicas", "no_replica"): Advice(
        _("What the settings call a copy of the database is none: it takes changes of its own."),
        _("Look whether it was made the main server, and whether HEALTH_REPLICAS still names the right one."),
    ),
    ("replicas", "unknown_lag"): Advice(
        _("A copy of the database does not say how far behind it is."),
        _("Look whether it is connected to the main server, and at its log."),
    ),
    ("replicas", "no_answer"): Advice(
        _("A copy of the database does not answer. Pages are read from the others, or from the main server."),
        _("Look whether it runs and can be reached from this host. It is used again as soon as it answers."),
    ),
    ("replicas", "left_out"): Advice(
        _("A copy of the database is so far behind that nothing is read there until it has caught up."),
        _("Look at the network between the two servers, and for long queries on the copy that hold it up."),
    ),
    ("replicas", "other_timeline"): Advice(
        _("A copy of the database has not followed the main server since that was promoted, or not noted it yet."),
        _("Let it follow the new main server; a CHECKPOINT there makes it note that at once. Else make it anew."),
    ),
    ("cache", ""): Advice(
        _("The cache does not keep what it is given, or is slow. Pages work, but slower."),
        _("Look whether the cache server runs, has memory left and can be reached from this host."),
    ),
    ("mail", ""): Advice(
        _("The mail server cannot be reached or is slow. Mails wait, and are sent when it is back."),
        _("Look whether the server in EMAIL_URL is right and can be reached from this host; then ask whoever runs it."),
    ),
    ("mail", "login_refused"): Advice(
        _("The mail server does not take our name and password. Mails wait."),
        _("Put the right ones into EMAIL_URL and start the site and the worker again."),
    ),
    ("mail", "tls_failed"): Advice(
        _("The connection to the mail server could not be encrypted. Mails wait."),
        _("Look whether its certificate has run out, and whether EMAIL_URL names the host that it is for."),
    ),
    ("mail", "not_writable"): Advice(
        _("Mails are kept as files, and none can be written."),
        _("Make the directory, or let the site's account write there."),
    ),
    ("disk", ""): Advice(
        _("A disk is nearly full. A full one stops the database, the log and backups."),
        _("Find out what grew (logs, backups, kept files), and make room or enlarge it."),
    ),
    ("disk", "many_files"): Advice(
        _("A disk can hold few more files, whatever their size. Then nothing new can be written."),
        _("Look for a directory with very many small files, such as an old cache, and empty it."),
    ),
    ("disk", "missing"): Advice(
        _("A directory that is to be watched is not there."),
        _("Look whether its disk is mounted, and whether HEALTH_DISK_PATHS is right."),
    ),
    ("audit", ""): Advice(
        _("The audit trail is not as it should be."),
        _("Run “manage.py audit partitions”: it says what is missing."),
    ),
    ("audit", "triggers_differ"): Advice(
        _("What records changes in the database is missing or not ours: changes may go unrecorded."),
        _("Run “manage.py migrate”, which puts it back; then find out from the database's log who removed it."),
    ),
    ("audit", "sealing_late"): Advice(
        _("The newest records have waited for their seal for too long. They are kept, but not proven yet."),
        _("Look whether the worker runs: it seals. A very old open transaction holds it up, too (page “Database”)."),
    ),
    ("audit", "partitions_run_out"): Advice(
        _("Room for records of the next weeks has not been made ahead. Nothing is lost without it."),
        _("Look whether the worker runs: it makes the room. By hand: “manage.py audit partitions --make”."),
    ),
    ("audit", "outside_partitions"): Advice(
        _("Records lie outside the weeks that were made for them. They are kept, but cost time."),
        _("Run “manage.py audit partitions --make”, which moves them."),
    ),
    ("worker", ""): Advice(
        _("Work in the background is late: mails and other jobs wait."),
        _("Look whether “manage.py worker” runs, and at its log. If it cannot keep up, start a second one."),
    ),
    ("worker", "given_up"): Advice(
        _("A job failed again and again, and is not tried any more."),
        _("The log of the worker says why. Mend that, then have it done again."),
    ),
    ("configuration", ""): Advice(
        _("The database server is set up so that an outage could lose what was saved, or that it is too old."),
        _("Start “manage.py check --database default”: it says which setting, and what it should be."),
    ),
}


def tell(name: str, code: str, advice: Advice) -> None:
    """Say what this code of a check means; an empty code stands for all that have no words of their own."""
    _ADVICE[name, code] = advice


def advice(name: str, code: str) -> Advice:
    """Return what to say about a check that found something wrong."""
    name = "replicas" if name in settings.HEALTH_REPLICAS else name
    return _ADVICE.get((name, code)) or _GENERAL.get(code) or _ADVICE.get((name, "")) or _LOOK


def label(name: str) -> Any:
    """Return what a check is called, also one that is no longer registered."""
    check = registry.checks().get(name)
    return check.label if check else LABELS.get(name, name)
