"""Tables of the project's own app."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class OneUseToken(models.Model):
    """A token that `config.one_use` has handed out; what it was, only its holder knows."""

    purpose = models.CharField(max_length=100)
    digest = models.CharField(max_length=64)
    payload: models.JSONField[Any, Any] = models.JSONField()
    made_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("one-use token")
        verbose_name_plural = _("one-use tokens")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["digest"], name="config_one_use_token_digest")]
        indexes = [models.Index(fields=["expires_at"], name="config_one_use_token_expiry")]

    def __str__(self) -> str:
        return f"{self.purpose} until {self.expires_at}"
