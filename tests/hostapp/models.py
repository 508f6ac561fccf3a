"""Models with a field of every kind, and one that nobody audits for comparison."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from django.contrib.postgres import fields as postgres
from django.db import models
from django.utils import timezone

from config.rows import SoftDeleted, Versioned


class Tag(models.Model):
    name = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.name


class ThirteenFields(models.Model):
    """With the key, thirteen."""

    class Kind(models.TextChoices):
        SMALL = "s", "Small"
        LARGE = "l", "Large"

    name = models.CharField(max_length=100)
    text = models.TextField(default="", blank=True)
    number = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=12, decimal_places=2, default=Decimal("1.50"))
    ratio = models.FloatField(default=0.5)
    on = models.BooleanField(default=True)
    day = models.DateField(null=True, blank=True)
    at = models.DateTimeField(default=timezone.now)
    span = models.DurationField(null=True, blank=True)
    data: models.JSONField[Any, Any] = models.JSONField(default=dict, blank=True)
    key = models.UUIDField(default=uuid.uuid4)
    kind = models.CharField(max_length=1, choices=Kind.choices, default=Kind.SMALL)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Thing(ThirteenFields):
    tags = models.ManyToManyField(Tag, blank=True, related_name="things")


class UnauditedThing(ThirteenFields):
    tags = models.ManyToManyField(Tag, blank=True, related_name="+")


class Machine(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Part(models.Model):
    """Goes with its machine, and outlives its maker."""

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="parts")
    maker = models.ForeignKey(Tag, on_delete=models.SET_NULL, null=True)
    name = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.name


class Note(SoftDeleted, Versioned):
    """Written by several people at once, and never quite gone."""

    silent = ("read_count",)

    title = models.CharField(max_length=50)
    text = models.TextField(default="", blank=True)
    read_count = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["title"], name="hostapp_note_title", condition=models.Q(deleted_at=None))
        ]

    def __str__(self) -> str:
        return self.title


class Comment(models.Model):
    """Hangs on a note."""

    note = models.ForeignKey(Note, on_delete=models.CASCADE, related_name="comments")
    text = models.CharField(max_length=50)
    urgent = models.BooleanField(default=False)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.text


class Secretive(models.Model):
    """With something for every option of the registry; `api_key` is masked though nobody said so."""

    name = models.CharField(max_length=50)
    code = models.CharField(max_length=50, default="")
    api_key = models.CharField(max_length=50, default="")
    hidden = models.CharField(max_length=50, default="")
    phone = models.CharField(max_length=50, default="")
    data: models.JSONField[Any, Any] = models.JSONField(default=dict)
    blob = models.BinaryField(default=b"")
    seen = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class Vehicle(models.Model):
    """A parent with a table of its own."""

    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Truck(Vehicle):
    load = models.IntegerField(default=0)


class Word(models.Model):
    """Its key is text that may change, and it relates to its like in both directions at once."""

    code = models.CharField(max_length=10, primary_key=True)
    meaning = models.CharField(max_length=50, default="")
    synonyms = models.ManyToManyField("self", blank=True)

    def __str__(self) -> str:
        return self.code


class Everything(models.Model):
    """A field of every kind that Django has on PostgreSQL."""

    small = models.SmallIntegerField(null=True)
    big = models.BigIntegerField(null=True)
    flag = models.BooleanField(null=True)
    short = models.CharField(max_length=10, null=True)  # noqa: DJ001 - NULL is what is shown
    long = models.TextField(null=True)  # noqa: DJ001
    url = models.URLField(max_length=2000, null=True)  # noqa: DJ001
    day = models.DateField(null=True)
    hour = models.TimeField(null=True)
    moment = models.DateTimeField(null=True)
    span = models.DurationField(null=True)
    amount = models.DecimalField(max_digits=30, decimal_places=10, null=True)
    ratio = models.FloatField(null=True)
    uuid = models.UUIDField(null=True)
    blob = models.BinaryField(null=True)
    data: models.JSONField[Any, Any] = models.JSONField(null=True)
    address = models.GenericIPAddressField(null=True)
    numbers = postgres.ArrayField(models.IntegerField(), null=True)
    words = postgres.ArrayField(models.CharField(max_length=500), null=True)
    moments = postgres.ArrayField(models.DateTimeField(), null=True)
    period = postgres.DateTimeRangeField(null=True)  # type: ignore[misc]
    days = postgres.DateRangeField(null=True)  # type: ignore[misc]
    reach = postgres.BigIntegerRangeField(null=True)  # type: ignore[misc]
    margin = postgres.DecimalRangeField(null=True)  # type: ignore[misc]
    double = models.GeneratedField(
        expression=models.F("small") * 2, output_field=models.IntegerField(), db_persist=True
    )  # follows from the others

    def __str__(self) -> str:
        return str(self.pk)
