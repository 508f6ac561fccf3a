"""Rows of one person, and rows whose owner another row says; with migrations, as what refers to a person must be."""

from __future__ import annotations

from typing import Any

from django.db import models

from config.rows import Owned, SoftDeleted


class Errand(Owned, SoftDeleted):
    title = models.CharField(max_length=50, unique=True)
    after: models.ManyToManyField[Any, Any] = models.ManyToManyField("self", symmetrical=False, blank=True)

    def __str__(self) -> str:
        return self.title


class Step(models.Model):
    errand = models.ForeignKey(Errand, on_delete=models.CASCADE, related_name="steps")
    text = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.text
