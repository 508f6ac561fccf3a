"""Second factors in the database. What lets in once is used up by a conditional update, never by read and write."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import identity
from accounts.models import new_id


class Factor(models.Model):
    """Something that one person has, under the name that they gave it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(_("name"), max_length=64, validators=[identity.validate_one_line])
    created_at = models.DateTimeField(_("added"), default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pk}>"

    @property
    def kind(self) -> str:
        """What it is, in the reader's language."""
        return str(self._meta.verbose_name)


class AuthenticatorApp(Factor):
    """An app that shows codes (TOTP, RFC 6238). There is a row only once a code of it has been seen."""

    secret = models.TextField(help_text=_("Encrypted, see `encryption`."))
    # The 30 seconds of the code that was used last, counted from 1970: only later ones are taken.
    last_step = models.BigIntegerField()

    class Meta:
        verbose_name = _("authenticator app")
        verbose_name_plural = _("authenticator apps")


class Passkey(Factor):
    """A key pair of a device or password manager (WebAuthn), of which we have the public half."""

    credential_id = models.BinaryField(unique=True)
    public_key = models.BinaryField(help_text=_("AAGUID, id and COSE key, as the authenticator attested them."))
    sign_count = models.BigIntegerField()
    transports = ArrayField(models.CharField(max_length=32), default=list)
    answered = models.CharField(
        max_length=64, blank=True, help_text=_("A digest of the question that was answered last.")
    )

    class Meta:
        verbose_name = _("passkey")
        verbose_name_plural = _("passkeys")


class RecoveryCodes(models.Model):
    """The digests of those codes of one person that are not used yet."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+")
    digests = ArrayField(models.CharField(max_length=64))
    made_at = models.DateTimeField(_("made"), default=timezone.now)

    class Meta:
        verbose_name = _("recovery codes")
        verbose_name_plural = _("recovery codes")

    def __str__(self) -> str:
        return str(self.pk)


class RecoveryLink(models.Model):
    """That an administrator lets a person begin anew; the link in the mail is made of it, signed, and is not in it."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+")
    nonce = models.UUIDField(default=uuid.uuid4)
    made_at = models.DateTimeField(_("made"), default=timezone.now)

    class Meta:
        verbose_name = _("recovery link")
        verbose_name_plural = _("recovery links")

    def __str__(self) -> str:
        return str(self.pk)


class Demand(models.Model):
    """Since when a second factor is demanded of a person. Kept for good: nobody gets a second time of grace."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+")
    since = models.DateTimeField(_("since"), db_default=Now())

    class Meta:
        verbose_name = _("demand for a second factor")
        verbose_name_plural = _("demands for a second factor")

    def __str__(self) -> str:
        return str(self.pk)
