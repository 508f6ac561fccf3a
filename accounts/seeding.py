"""Makes up people, invitations and history, any number of them and always the same ones, for development and tests.

Who somebody is follows from the seed and their number alone, so a run that was cut short goes on, and one with more
people adds the rest. Rows are made by the server, a batch a transaction, past the models but not past the triggers:
each has its record in the audit trail, at the time at which it was made up and not at the one that it tells of.
Addresses are below example.com (RFC 2606), which no mail reaches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from functools import cache, partial, reduce
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone

import auditlog
from accounts import daily, identity, roles
from accounts.models import User
from auditlog.models import Record
from config import database_views
from config.database.roles import owner_connection
from config.progress import Tell, silent

RESOURCE = "seeding"  # in the audit trail
BATCH = 5_000  # people of one transaction
CONNECTIONS = 2
LOOK = 0.1  # seconds between two looks at how far it has come
PEOPLE_PER_INVITATION = 4  # at least: a used invitation let in the last of its four
REMEMBERED = 200  # people with sign-ins in the trail, and some of them with a lock
REASON = "made up by manage.py seed"
_FIRST = (
    "ada alan amina anna anton bela carla chen clara dario dora edith elena emil esra fatima felix frida georg hana "
    "hugo ida igor ines ivan jana jonas julia kenji kofi lara leon lina luca malik maria mina nadia noah olga omar "
    "paul petra rosa samir sofia tariq theo vera yara"
)
_LAST = (
    "abebe ahmed alvarez andersen bauer becker berg bianchi brandt carter chen costa cruz dubois eriksen evans fischer "
    "fontaine garcia gruber haas hansen ibrahim ivanov jansen johnson kaya keller kim koch kowalski lang larsen lee "
    "lindberg lopez meier mendes miller moreau mueller nagy nakamura nguyen novak okafor olsen patel pereira petrov "
    "quinn ramos richter rossi santos sato schmidt silva smith sousa suzuki tanaka vogel wagner weber wolf yilmaz zhang"
)
FIRST_NAMES, LAST_NAMES = _FIRST.split(), _LAST.split()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`people` came in the `days` before `until` began (UTC), more of them the later it was."""

    people: int
    invitations: int
    seed: int
    until: date
    days: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many of the plan were made by this run, and in how many seconds; the others were there."""

    plan: Plan
    people: int
    people_seconds: float
    invitations: int
    seconds: float
    interrupted: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        rate = round(self.people_seconds and self.people / self.people_seconds)
        made = {"people_made": self.people, "invitations_made": self.invitations, "people_per_second": rate}
        return {**asdict(self.plan), **made, "seconds": round(self.seconds, 2), "interrupted": self.interrupted}


def remembered(seed: int) -> tuple[date, int] | None:
    """Return until when and over how many days the last run with this seed made people up, if the trail knows one."""
    ran = Record.objects.filter(resource=RESOURCE, action="seed", new__seed=seed).order_by("-id").first()
    return (date.fromisoformat(ran.new["until"]), int(ran.new["days"])) if ran and ran.new else None


def today() -> date:
    return timezone.now().astimezone(UTC).date()


def fill(plan: Plan, *, tell: Tell = silent) -> Outcome:
    """Make whoever of `plan` is not there yet; Ctrl-C ends it after the batches under way, which stay.

    Raises IntegrityError when somebody else bears a name or an address of the plan.
    """
    begun = time.monotonic()
    people, invitations = _Work(_people, plan, plan.people), _Work(_invitations, plan, plan.invitations)
    with auditlog.acting_as(reason=REASON):
        facts = {"seed": plan.seed, "until": plan.until, "days": plan.days}
        auditlog.record("seed", RESOURCE, new={**facts, "people": plan.people, "invitations": plan.invitations})
        interrupted = people.do(partial(tell, "people"))
        people_seconds = time.monotonic() - begun
        interrupted = interrupted or invitations.do(partial(tell, "invited"))
    if not interrupted:
        _count_days(plan)
    return Outcome(
        plan=plan,
        people=people.made,
        people_seconds=people_seconds,
        invitations=invitations.made,
        seconds=time.monotonic() - begun,
        interrupted=interrupted,
    )


class _Work:
    """Batches, done by a few threads with a connection each."""

    def __init__(self, make: Callable[[Plan, int, int], int], plan: Plan, of: int) -> None:
        self.make, self.plan, self.of = make, plan, of
        self.made = self.through = 0
        self._batches = iter(range(1, of + 1, BATCH))
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._faults: list[BaseException] = []

    def do(self, tell: Callable[[int, int], None]) -> bool:
        """Return whether Ctrl-C ended it; raises what a batch raised, when the others under way have ended."""
        threads = [threading.Thread(target=auditlog.carried(self._run)) for _ in range(CONNECTIONS)]
        interrupted = False
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                threads[0].join(LOOK)
                threads[-1].join(LOOK)
                tell(self.through, self.of)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._faults:
            raise self._faults[0]
        return interrupted

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                with self._turn:
                    first = next(self._batches, None)
                if first is None:
                    return
                last = min(first + BATCH - 1, self.of)
                with transaction.atomic():
                    _wait_for_no_disk()
                    made = self.make(self.plan, first, last)
                with self._turn:
                    self.made += made
                    self.through += last - first + 1
        except Exception as fault:  # raised again where somebody waits
            self._faults.append(fault)
            self._stop.set()
        finally:
            connection.close()


def _wait_for_no_disk() -> None:
    """What a crash of the server takes with it, the next run makes again; whatever commits afterwards waits for all."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")


# People


def _id_of(at: str, digest: str) -> str:
    """SQL for a UUIDv7 (RFC 9562, section 5.7) of a moment and digits."""
    milliseconds = f"lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0')"
    return f"({milliseconds} || '7' || substr({digest}, 1, 3) || '8' || substr({digest}, 4, 15))::uuid"


def skeleton_sql(name: str) -> str:
    """SQL for the look-alike key of a name made of small letters, digits and dots."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789."
    looks = {letter: identity.username_skeleton(letter) for letter in letters}
    unlike = [(letter, look) for letter, look in looks.items() if letter != look]
    return reduce(lambda inner, pair: f"replace({inner}, '{pair[0]}', '{pair[1]}')", unlike, name)


def _people_of(numbers: str) -> str:
    """SQL for the people whose numbers `numbers`, SQL itself, selects as ``n``; `_about` has the values of both.

    Without each OFFSET the planner would put the expressions into each other, and compute a digest a dozen times.
    """
    return f"""
    SELECT *, {_id_of("at", "h")} AS id,
        {skeleton_sql("username")} AS skeleton,
        username || '@mail' || c %% 20 || '.example.com' AS email
    FROM (
        SELECT *, first || '.' || last || %(mark)s || n AS username,
            (%(until)s::timestamptz - make_interval(days => 1 + floor(%(days)s * (1 - sqrt(b / 4294967296.0)))::int))
                + make_interval(secs => (b %% 65536 + c %% 65536) / 131072.0 * 86400) AS at
        FROM (
            SELECT *, (%(first)s::text[])[a %% {len(FIRST_NAMES)} + 1] AS first,
                (%(last)s::text[])[a / 65536 %% {len(LAST_NAMES)} + 1] AS last
            FROM (
                SELECT n, h, ('x' || substr(h, 1, 8))::bit(32)::bigint AS a,
                    ('x' || substr(h, 9, 8))::bit(32)::bigint AS b, ('x' || substr(h, 17, 8))::bit(32)::bigint AS c
                FROM (SELECT n, md5(%(seed)s || ' person ' || n) AS h FROM ({numbers}) numbers OFFSET 0) hashed
            OFFSET 0) drawn
        OFFSET 0) named
    OFFSET 0) timed
    """  # noqa: S608 - names of our own


# Of a thousand: fifty without a confirmed address, none of them one of four, whom an invitation may have let in; two
# hundred and fifty who never signed in; ten shut out; thirty whom somebody added. The first is of the staff.
_COLUMNS = {
    "id": "id",
    "password": "%(password)s",
    "username": "username",
    "username_source": "username",
    "username_canonical": "username",
    "username_skeleton": "skeleton",
    "email": "email",
    "email_source": "email",
    "email_canonical": "email",
    "email_verified_at": "CASE WHEN c %% 1000 >= 67 OR n %% 4 = 0 OR n %% 1000 = 1"
    " THEN least(at + make_interval(secs => a %% 7200), %(until)s) END",
    "full_name": "initcap(first || ' ' || last)",
    "last_login": "CASE WHEN c %% 1000 >= 300 THEN at + (%(until)s::timestamptz - at) * (a / 4294967296.0) END",
    "login_count": "CASE WHEN c %% 1000 >= 300 THEN a %% 90 + 1 ELSE 0 END",
    "is_active": "c %% 1000 < 990 OR n %% 1000 = 1",
    "is_staff": "n %% 1000 = 1",
    "signup_key": "CASE WHEN b %% 1000 >= 30 THEN md5(h)::uuid END",
    "created_at": "at",
    "updated_at": "at",
}
_ROLES = """
INSERT INTO accounts_user_groups (user_id, group_id)
SELECT id, %(member)s FROM made UNION ALL SELECT id, %(support)s FROM made WHERE is_staff RETURNING user_id
"""
_SIGN_INS = """
SELECT count(auditlog_record_event(e.action, 'accounts.user', id::text, username, NULL, NULL, NULL))
FROM ({people}) people
CROSS JOIN (VALUES (1, 'login'), (2, 'login_failed'), (3, 'login'), (4, 'locked_out')) e (n, action)
WHERE people.id = ANY(%(newcomers)s) AND (people.n %% 4 >= e.n OR e.n = 4 AND people.n %% 40 = 0)
"""
_TRIES = """
INSERT INTO accounts_loginattempt (account, network, device)
SELECT id::text, '203.0.113.' || people.n, '' FROM ({people}) people CROSS JOIN generate_series(1, %(limit)s)
WHERE people.id = ANY(%(newcomers)s) AND people.n %% 40 = 0
"""
_NUMBERS = "SELECT n FROM generate_series(%(begin)s::bigint, %(end)s) n"


def _people(plan: Plan, begin: int, end: int) -> int:
    values = _about(plan) | {"begin": begin, "end": end}
    with connection.cursor() as cursor:
        cursor.execute(_insert_people(), values)
        made, newcomers = cursor.fetchone()
        if newcomers:
            few = values | {"end": REMEMBERED, "newcomers": newcomers, "limit": settings.LOGIN_FAILURE_LIMIT}
            cursor.execute(_SIGN_INS.format(people=_people_of(_NUMBERS)), few)
            cursor.execute(_TRIES.format(people=_people_of(_NUMBERS)), few)
    return int(made)


@cache
def _insert_people() -> str:
    columns = {**_COLUMNS, **{name: f"%({name})s" for name in _defaults()}}
    return (
        f"WITH people AS ({_people_of(_NUMBERS)}), made AS ("  # noqa: S608 - names of our own
        f"INSERT INTO accounts_user ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM people ORDER BY id"
        f" ON CONFLICT (id) DO NOTHING RETURNING id, is_staff, username), given AS ({_ROLES}) SELECT count(*),"
        f" array_agg(id) FILTER (WHERE split_part(username, '.', -1)::bigint <= {REMEMBERED}) FROM made"
    )


@cache
def _defaults() -> dict[str, Any]:
    """What a column unknown here holds is the model's default."""
    others = [field for field in User._meta.concrete_fields if field.column not in _COLUMNS]
    return {str(field.column): field.get_default() for field in others}


def _about(plan: Plan) -> dict[str, Any]:
    groups = dict(Group.objects.filter(name__in=roles.ROLES).values_list("name", "pk"))
    return {
        **_defaults(),
        "password": make_password(None),
        "seed": str(plan.seed),
        "mark": "." if plan.seed == 1 else f".{plan.seed}.",  # so that people of several seeds can live side by side
        "until": datetime.combine(plan.until, time_of_day(), UTC),
        "days": plan.days,
        "first": FIRST_NAMES,
        "last": LAST_NAMES,
        "member": groups[roles.MEMBER],
        "support": groups["Support"],
    }


# Invitations

# Of a hundred: fifty-seven let somebody in, forty-five of them by mail; five were taken back; the others were mailed
# and not used, and are open for two weeks. Who came in is the last of four people, who invited is of the staff.
_STAFF_NUMBER = "1 + 1000 * (k * 7 %% ((4 * k - 1) / 1000 + 1))"
_SERIES = "FROM generate_series(%(begin)s::bigint, %(end)s) k"
_PLANNED = f"""
SELECT k, person.*, staff.id AS inviter_id, staff.username AS inviter, fate < 57 AS is_used,
    fate < 45 OR fate >= 57 AS is_mailed, person.at - make_interval(mins => 30 + (person.a %% 5000)::int) AS made_at,
    CASE WHEN fate < 45 THEN person.email WHEN fate < 57 THEN ''
        ELSE 'guest' || %(mark)s || k || '@mail' || person.c %% 20 || '.example.com' END AS invited,
    CASE WHEN fate BETWEEN 52 AND 56 THEN split_part(person.email, '@', 2) ELSE '' END AS domain
FROM (SELECT k, {_STAFF_NUMBER} AS staff_number {_SERIES}) numbered
JOIN (SELECT *, ('x' || substr(md5(h), 1, 8))::bit(32)::bigint %% 100 AS fate FROM person) person ON person.n = 4 * k
JOIN staff ON staff.n = staff_number
"""  # noqa: S608 - names of our own
_INSERT_INVITATIONS = f"""
WITH person AS MATERIALIZED ({_people_of(f"SELECT 4 * k AS n {_SERIES}")}),
staff AS MATERIALIZED ({_people_of(f"SELECT DISTINCT {_STAFF_NUMBER} AS n {_SERIES}")}),
planned AS MATERIALIZED (SELECT *, {_id_of("made_at", "md5(h || 'i')")} AS invitation_id FROM ({_PLANNED}) drawn),
made AS (
    INSERT INTO accounts_invitation (
        id, nonce, email, email_canonical, domain, max_uses, uses, note, invited_by_id, invited_by_name, from_command,
        created_at, lifetime_days, expires_at, delivery, sent_at, revoked_at
    ) SELECT
        invitation_id, md5(h || 'nonce')::uuid, invited, invited, domain, CASE WHEN domain = '' THEN 1 ELSE 25 END,
        is_used::int, '', inviter_id, inviter, false, made_at, 14, made_at + interval '14 days',
        CASE WHEN NOT is_mailed THEN '' WHEN fate = 99 THEN 'failed' ELSE 'delivered' END,
        CASE WHEN is_mailed THEN made_at + interval '2 seconds' END,
        CASE WHEN fate BETWEEN 57 AND 61 THEN made_at + interval '1 day' END
    FROM planned ORDER BY k ON CONFLICT (id) DO NOTHING RETURNING id
), opened AS (
    INSERT INTO accounts_opening (invitation_id, opened_at)
    SELECT made.id, made_at + make_interval(mins => (a %% 30)::int) FROM planned JOIN made ON made.id = invitation_id
    WHERE is_used OR fate %% 2 = 0
), redeemed AS (
    INSERT INTO accounts_redemption (invitation_id, user_id, username, redeemed_at)
    SELECT made.id, planned.id, username, at FROM planned JOIN made ON made.id = invitation_id WHERE is_used
) SELECT count(*) FROM made
"""  # noqa: S608 - names of our own


def _invitations(plan: Plan, begin: int, end: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_INVITATIONS, _about(plan) | {"begin": begin, "end": end})
        return int(cursor.fetchone()[0])


# Figures

_DAYS = """
INSERT INTO accounts_eventday (day, event, count)
SELECT day, event, count FROM (
    SELECT day, event, (share * %(people)s * (day - %(until)s::date + %(days)s + 1) / %(days)s)::bigint AS count
    FROM (SELECT (%(until)s::date - ago) AS day FROM generate_series(1, %(days)s) ago) spread
    CROSS JOIN (VALUES ('login', 0.12), ('login_failed', 0.015), ('locked_out', 0.0004)) share (event, share)
) counted WHERE count > 0
ON CONFLICT (day, event) DO UPDATE SET count = greatest(accounts_eventday.count, excluded.count)
"""


def _count_days(plan: Plan) -> None:
    """Make up how often people signed in on each day, and let the server count and look at what is new."""
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, {"people": plan.people, "until": plan.until, "days": plan.days})
    with owner_connection() as owner, owner.cursor() as cursor:
        cursor.execute("ANALYZE accounts_user, accounts_invitation, accounts_redemption, accounts_opening")
    database_views.refresh(daily.SIGNUPS)
