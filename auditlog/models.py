"""The tables of the trail. All are written by the database's own functions and only read from here."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class ExactDecoder(json.JSONDecoder):
    """Reads numbers with a point as decimals: a price of 20 digits is one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_float=Decimal, **options)


class Record(models.Model):
    """One change, or one event: who did what to what, when, from where and why.

    `old` and `new` hold the values of columns by name (absent: NULL); those that are somebody's personal data are in
    `personal`, as ``{"old": …, "new": …}``. For a many-to-many field the value maps the ids of rows to targets.
    """

    class Action(models.TextChoices):
        """What the database records by itself; events have names of their own."""

        CREATE = "create", _("created")
        UPDATE = "update", _("changed")
        DELETE = "delete", _("deleted")
        ADD = "add", _("added")
        REMOVE = "remove", _("removed")
        TRUNCATE = "truncate", _("emptied")

    class Origin(models.TextChoices):
        """By which path it came."""

        SAVE = "save", _("saved")
        DELETE = "delete", _("deleted, with what hangs on it")
        BULK = "bulk", _("many at once")
        M2M = "m2m", _("related")
        RESTORE = "restore", _("an old value restored")
        EVENT = "event", _("event")
        SQL = "sql", _("SQL of this application")
        OUTSIDE = "outside", _("another program")

    class ActorKind(models.TextChoices):
        USER = "user", _("user")
        ANONYMOUS = "anonymous", _("somebody not signed in")
        TOKEN = "token", _("token")
        COMMAND = "command", _("command")
        MIGRATION = "migration", _("migration")
        DATABASE = "database", _("database role")

    id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(_("when"))
    transaction = models.BigIntegerField(_("transaction"))
    agent = models.BigIntegerField(null=True)
    request = models.UUIDField(_("request"), null=True)
    epoch = models.SmallIntegerField()
    address = models.GenericIPAddressField(_("address"), null=True)
    origin = models.TextField(_("path"), choices=Origin.choices)
    action = models.TextField(_("action"))
    actor_kind = models.TextField(choices=ActorKind.choices)
    actor_id = models.TextField(null=True)
    actor_label = models.TextField(_("who"), null=True)
    on_behalf_id = models.TextField(null=True)
    on_behalf_label = models.TextField(_("on behalf of"), null=True)
    resource = models.TextField(_("kind of object"))
    object_id = models.TextField(_("object id"), null=True)
    object_label = models.TextField(_("object"), null=True)
    old: models.JSONField[Any, Any] = models.JSONField(null=True, decoder=ExactDecoder)
    new: models.JSONField[Any, Any] = models.JSONField(null=True, decoder=ExactDecoder)
    personal: models.JSONField[Any, Any] = models.JSONField(null=True, decoder=ExactDecoder)
    reason = models.TextField(_("reason"), null=True)
    # What stands in for erased values when the seal is checked.
    erased_who = models.BinaryField(null=True)
    erased_what = models.BinaryField(null=True)

    class Meta:
        managed = False
        db_table = "auditlog_record"
        verbose_name = _("audit record")
        verbose_name_plural = _("audit trail")
        default_permissions = ("view",)
        permissions = [
            ("export_record", "Can export audit records"),
            ("restore_record", "Can restore old values from audit records"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.resource} {self.object_label or self.object_id or ''}".rstrip()

    @property
    def before(self) -> dict[str, Any]:
        """The old values, personal ones included."""
        return {**(self.old or {}), **((self.personal or {}).get("old") or {})}

    @property
    def after(self) -> dict[str, Any]:
        """The new values, personal ones included."""
        return {**(self.new or {}), **((self.personal or {}).get("new") or {})}


class Agent(models.Model):
    """A browser's name, by its hash; there may be two equal rows."""

    id = models.BigIntegerField(primary_key=True)
    name = models.TextField()

    class Meta:
        managed = False
        db_table = "auditlog_agent"
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Seal(models.Model):
    """What proves that a closed set of records is what it was; see `auditlog.sealing`.

    Its records are those of `epoch` and `week` (the moment it opens) from one position (transaction, id) to before
    another. Of a week that was dropped, `ids`, `prefixes` and `salts` are gone.
    """

    id = models.BigIntegerField(primary_key=True)  # 1, 2, 3 and so on
    at = models.DateTimeField()
    key = models.TextField()  # which one, by its id
    epoch = models.SmallIntegerField()
    week = models.DateTimeField()
    from_transaction = models.BigIntegerField()
    from_id = models.BigIntegerField()
    to_transaction = models.BigIntegerField()
    to_id = models.BigIntegerField()
    records = models.IntegerField()
    purged_before = models.DateTimeField(null=True)  # what a purge had dropped by then
    root = models.BinaryField()
    digest = models.BinaryField()
    ids = models.TextField(null=True)  # a multirange of bigint
    prefixes = models.BinaryField(null=True)  # 4 bytes of each record's leaf, by id
    salts = models.BinaryField(null=True)  # 8 and 8 bytes for each record, by id

    class Meta:
        managed = False
        db_table = "auditlog_seal"
        default_permissions = ()

    def __str__(self) -> str:
        return f"seal {self.id}"
