"""Accounts in the database. Constraints decide: what is written here cannot be got round by any writer."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any

from django.contrib.auth import password_validation
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import Group, PermissionsMixin
from django.core.validators import MaxValueValidator, MinValueValidator, URLValidator
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

import auditlog
from accounts import identity
from accounts.fields import DerivedTextField, unchanged


def new_id() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    version_7, variant = 0x7 << 76, 0b10 << 62
    random_a, random_b = secrets.randbits(12) << 64, secrets.randbits(62)
    return uuid.UUID(int=(milliseconds << 80) | version_7 | random_a | variant | random_b)


class UserManager(BaseUserManager["User"]):
    """Creates users through validation and the password policy, whoever calls."""

    def create_user(self, username: str, email: str, password: str | None = None, **fields: Any) -> User:
        """Validate and insert a user; no password means one that nobody can sign in with.

        Raises ValidationError (shape or password policy) or IntegrityError (a twin exists).
        """
        user = self.model(username=username.strip(), email=email.strip(), **fields)
        user.set_password(password)
        user.clean_fields(exclude=["password"])
        user.save(using=self._db, force_insert=True)
        return user

    def create_superuser(self, username: str, email: str, password: str | None = None, **fields: Any) -> User:
        """As `create_user`, with every permission and a verified address (for ``createsuperuser``)."""
        fields = {"email_verified_at": timezone.now(), **fields, "is_staff": True, "is_superuser": True}
        return self.create_user(username, email, password, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(username_canonical=identity.canonical_username(username or ""))

    def by_login_name(self, name: str) -> User | None:
        """Return the user with this username or e-mail address, in any spelling, or None."""
        if not identity.is_storable(name):
            return None
        if "@" in name:  # no username has one
            return self.filter(email_canonical=identity.canonical_email(name)).first()
        return self.filter(username_canonical=identity.canonical_username(name)).first()


class User(AbstractBaseUser, PermissionsMixin):
    """A person who may be let in.

    `username` and `email` keep what was typed; the canonical columns decide who is who (see `identity`).
    `updated_at` and `version` are kept by a database trigger, so that no writer can forget them.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    username = models.CharField(
        _("username"), max_length=identity.LONGEST_USERNAME, validators=[identity.validate_username]
    )
    username_source = DerivedTextField(source="username", derive=unchanged)
    username_canonical = DerivedTextField(source="username", derive=identity.canonical_username)
    username_skeleton = DerivedTextField(source="username", derive=identity.username_skeleton)
    look_alike_approved = models.BooleanField(
        _("look-alike approved"),
        default=False,
        help_text=_("An administrator has seen that this name looks like another one, and allows it."),
    )
    email = models.CharField(
        _("e-mail address"), max_length=identity.LONGEST_EMAIL, validators=[identity.validate_email_address]
    )
    email_source = DerivedTextField(source="email", derive=unchanged)
    email_canonical = DerivedTextField(source="email", derive=identity.canonical_email)
    email_verified_at = models.DateTimeField(_("e-mail verified at"), null=True, blank=True)
    full_name = models.CharField(_("full name"), max_length=150, blank=True, validators=[identity.validate_one_line])
    bio = models.TextField(_("about you"), max_length=1000, blank=True)
    avatar_url = models.CharField(
        _("picture address"),
        max_length=500,
        blank=True,
        validators=[URLValidator(schemes=["https"])],
        help_text=_("Kept as a link; Gatehouse itself never fetches it."),
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Clear this instead of deleting the account.")
    )
    is_staff = models.BooleanField(_("staff"), default=False, help_text=_("May enter this admin site."))
    login_count = models.PositiveIntegerField(_("number of logins"), default=0, editable=False)
    signup_key = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated"), default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(_("deleted"), null=True, editable=False)
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["email"]

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        # The order of the constraints is the order in which PostgreSQL reports a row that breaks several.
        # text_pattern_ops serves equality and the prefix search of the admin with one index.
        constraints = [
            models.UniqueConstraint(
                fields=["username_canonical"], name="accounts_user_username", opclasses=["text_pattern_ops"]
            ),
            models.UniqueConstraint(
                fields=["username_skeleton"],
                name="accounts_user_look_alike",
                condition=Q(look_alike_approved=False),
            ),
            models.UniqueConstraint(
                fields=["email_canonical"], name="accounts_user_email", opclasses=["text_pattern_ops"]
            ),
            models.UniqueConstraint(fields=["signup_key"], name="accounts_user_signup_key"),
            models.CheckConstraint(
                condition=Q(username_source=models.F("username")), name="accounts_user_username_not_stale"
            ),
            models.CheckConstraint(condition=Q(email_source=models.F("email")), name="accounts_user_email_not_stale"),
            models.CheckConstraint(
                condition=~Q(username_canonical="") & ~Q(username_skeleton="") & ~Q(email_canonical=""),
                name="accounts_user_identity_not_empty",
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="accounts_user_created"),
            models.Index(fields=["updated_at"], name="accounts_user_updated"),
            # The few that the admin's filters look for among millions.
            models.Index(fields=["id"], name="accounts_user_inactive", condition=Q(is_active=False)),
            models.Index(fields=["id"], name="accounts_user_staff", condition=Q(is_staff=True)),
            models.Index(fields=["id"], name="accounts_user_superuser", condition=Q(is_superuser=True)),
        ]

    def __str__(self) -> str:
        return self.username

    def __repr__(self) -> str:
        return f"<User {self.pk} {self.username!r}>"

    @property
    def initials(self) -> str:
        """One or two capitals that stand for the person's picture."""
        words = (self.full_name or self.username).replace(".", " ").replace("_", " ").replace("-", " ").split()
        return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper()

    @property
    def may_sign_in(self) -> bool:
        return self.is_active and self.deleted_at is None and self.email_verified_at is not None

    def clean(self) -> None:
        # AbstractBaseUser.clean would put the NFKC form in place of what the person typed.
        self.username, self.email = self.username.strip(), self.email.strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        update_fields = kwargs.get("update_fields")
        if update_fields is not None:
            kwargs["update_fields"] = _with_derived(set(update_fields))
        super().save(*args, **kwargs)

    def get_full_name(self) -> str:
        return self.full_name or self.username

    def get_short_name(self) -> str:
        return self.username

    def set_password(self, raw_password: str | None) -> None:
        """Apply the policy, then hash; None makes a password that nobody can sign in with.

        Raises ValidationError with every broken rule. The hash takes a quarter of a second: set the
        password before a transaction is opened.
        """
        if raw_password is not None:
            password_validation.validate_password(raw_password, self)
        super().set_password(raw_password)

    def check_password(self, raw_password: str | None) -> bool:
        """Whether `raw_password` is right; one hash, and an old hash is replaced by the current kind."""

        def upgrade(password: str) -> None:
            # Without the policy: a stricter one must not lock out old passwords. Only if the hash is still
            # the one that was checked: a concurrent password change must not be undone.
            new = make_password(password)
            with auditlog.acting_as(reason="the same password, hashed anew"):
                unchanged = type(self).objects.filter(pk=self.pk, password=self.password)
                if unchanged.update(password=new):
                    self.password = new

        return check_password(raw_password, self.password, upgrade)


def _with_derived(names: set[str]) -> set[str]:
    fields = User._meta.concrete_fields
    derived = [field for field in fields if isinstance(field, DerivedTextField)]
    return names | {field.name for field in derived if field.source in names}


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def in_state(self, state: str) -> InvitationQuerySet:
        """Return those that are open, used, expired or revoked at this moment."""
        return self.filter(Q(("state_now", state)))


class InvitationManager(models.Manager["Invitation"]):
    """Every row it finds knows its state at that moment, by the database's clock."""

    def get_queryset(self) -> InvitationQuerySet:
        state = Case(
            When(revoked_at__isnull=False, then=Value("revoked")),
            When(uses__gte=F("max_uses"), then=Value("used")),
            When(Q(lapsed_at__isnull=False) | Q(expires_at__lte=Now()), then=Value("expired")),
            default=Value("open"),
        )
        return InvitationQuerySet(self.model, using=self._db).annotate(state_now=state)

    def in_state(self, state: str) -> InvitationQuerySet:
        return self.get_queryset().in_state(state)


class Invitation(models.Model):
    """A way in for one address, for a domain, or for whoever holds the link.

    Its link is made of `id` and `nonce`, signed (see `links`): nothing in the row opens anything. Rows are kept,
    so that who invited whom stays readable; `uses` only ever changes by the conditional update of `invitations`.
    """

    class Delivery(models.TextChoices):
        BY_HAND = "", _("handed over as a link")
        QUEUED = "queued", _("waiting to be sent")
        DELIVERED = "delivered", _("delivered")
        FAILED = "failed", _("not delivered")

    class State(models.TextChoices):
        OPEN = "open", _("open")
        USED = "used", _("used")
        EXPIRED = "expired", _("expired")
        REVOKED = "revoked", _("revoked")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    nonce = models.UUIDField(default=uuid.uuid4, editable=False)
    email = models.CharField(
        _("e-mail address"),
        max_length=identity.LONGEST_EMAIL,
        blank=True,
        validators=[identity.validate_email_address],
        help_text=_("Whom we send it to. Only this address can use it, once."),
    )
    email_canonical = DerivedTextField(source="email", derive=identity.canonical_email)
    domain = models.CharField(
        _("e-mail domain"),
        max_length=253,
        blank=True,
        validators=[identity.validate_domain],
        help_text=_("Or: a link for everybody with an address at this domain, like example.com."),
    )
    max_uses = models.PositiveIntegerField(
        _("number of uses"), default=1, validators=[MinValueValidator(1), MaxValueValidator(10_000)]
    )
    uses = models.PositiveIntegerField(_("used"), default=0, editable=False)
    roles = models.ManyToManyField(
        Group, verbose_name=_("roles"), blank=True, related_name="+", help_text=_("What the invited person may do.")
    )
    note = models.CharField(
        _("personal note"),
        max_length=500,
        blank=True,
        validators=[identity.validate_one_line],
        help_text=_("Shown in the mail and on the page."),
    )
    invited_by = models.ForeignKey(
        User,
        verbose_name=_("invited by"),
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        db_index=False,
        related_name="invitations",
    )
    invited_by_name = models.CharField(_("inviter's name"), max_length=200, editable=False)
    # Without an inviter and not from a command: the inviter was deleted, and with them what they could grant.
    from_command = models.BooleanField(_("made by a command"), default=False, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    lifetime_days = models.PositiveSmallIntegerField(
        _("days it is open"), validators=[MinValueValidator(1), MaxValueValidator(365)], editable=False
    )
    expires_at = models.DateTimeField(_("expires"), editable=False)
    delivery = models.CharField(
        _("delivery"), max_length=10, choices=Delivery.choices, default=Delivery.BY_HAND, blank=True, editable=False
    )
    sent_at = models.DateTimeField(_("last sent"), null=True, editable=False)
    asked_at = models.DateTimeField(_("new one asked for"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)
    lapsed_at = models.DateTimeField(_("followed by a newer one"), null=True, editable=False)

    objects = InvitationManager()
    was_open = False  # set by `invitations.invite_addresses` on one that it has not made

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        constraints = [
            models.CheckConstraint(
                condition=Q(uses__gte=0, uses__lte=F("max_uses"), max_uses__gte=1), name="accounts_invitation_uses"
            ),
            models.CheckConstraint(condition=Q(email="") | Q(domain=""), name="accounts_invitation_one_binding"),
            models.CheckConstraint(condition=Q(email="") | Q(max_uses=1), name="accounts_invitation_one_address"),
            models.UniqueConstraint(
                fields=["email_canonical"],
                # An expired row stays open here until a newer one follows it (`lapsed_at`): an index knows no clock.
                condition=~Q(email_canonical="") & Q(revoked_at=None, lapsed_at=None, uses__lt=F("max_uses")),
                name="accounts_invitation_one_open",
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="accounts_invitation_created"),
            models.Index(fields=["invited_by", "created_at"], name="accounts_invitation_inviter"),
            models.Index(fields=["email_canonical"], name="accounts_invitation_email", opclasses=["text_pattern_ops"]),
            # The few that the admin's filters look for among millions.
            models.Index(fields=["id"], name="accounts_invitation_unused", condition=Q(uses__lt=F("max_uses"))),
            models.Index(fields=["id"], name="accounts_invitation_used", condition=Q(uses__gte=F("max_uses"))),
            models.Index(fields=["expires_at"], name="accounts_invitation_expiry", condition=Q(uses__lt=F("max_uses"))),
            models.Index(fields=["id"], name="accounts_invitation_revoked", condition=Q(revoked_at__isnull=False)),
            models.Index(fields=["delivery", "id"], name="accounts_invitation_delivery"),
        ]

    def __str__(self) -> str:
        return self.email or (f"@{self.domain}" if self.domain else gettext("Link"))

    def __repr__(self) -> str:
        return f"<Invitation {self.pk} {self.uses}/{self.max_uses}>"

    @property
    def state(self) -> str:
        """One of `State`, as it was when the row was read from the database."""
        return str(self.__dict__["state_now"])

    def get_state_display(self) -> str:
        return str(self.State(self.state).label)


class Redemption(models.Model):
    """Who came in by which invitation."""

    invitation = models.ForeignKey(Invitation, on_delete=models.PROTECT, related_name="redemptions")
    user = models.OneToOneField(User, on_delete=models.SET_NULL, null=True, related_name="redemption")
    username = models.CharField(_("username"), max_length=identity.LONGEST_USERNAME)
    redeemed_at = models.DateTimeField(_("redeemed"), default=timezone.now)

    class Meta:
        verbose_name = _("redemption")
        verbose_name_plural = _("redemptions")
        indexes = [models.Index(fields=["redeemed_at"], name="accounts_redemption_redeemed")]

    def __str__(self) -> str:
        return self.username


class Opening(models.Model):
    """When somebody first did something on the page behind an invitation's link; never written by a GET.

    A row of its own: whatever is done with the page, the invitation stays as it was.
    """

    invitation = models.OneToOneField(Invitation, on_delete=models.CASCADE, primary_key=True, related_name="opening")
    opened_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("opening")
        verbose_name_plural = _("openings")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.pk)


class ReservedUsername(models.Model):
    """A name that is nobody's and still not free, for a while.

    Either somebody gave it up (`holder` may have it back), so that nobody inherits a history: written and
    enforced by triggers on the user table (see the migrations), so that every rename and every newcomer is
    covered, by whatever path. Or a signup with a known address asked for it (no holder).
    """

    username_canonical = models.TextField()
    username_skeleton = models.TextField()
    holder = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="reserved_usernames")
    signup_key = models.UUIDField(null=True)
    reserved_until = models.DateTimeField()

    class Meta:
        verbose_name = _("reserved username")
        verbose_name_plural = _("reserved usernames")
        constraints = [models.UniqueConstraint(fields=["signup_key"], name="accounts_reserved_signup_key")]
        indexes = [
            models.Index(fields=["username_canonical"], name="accounts_reserved_canonical"),
            models.Index(fields=["username_skeleton"], name="accounts_reserved_skeleton"),
        ]

    def __str__(self) -> str:
        return self.username_canonical


class LoginAttempt(models.Model):
    """One password that was or is being tried; written by `lockout` before the password is hashed.

    It counts as a failure until a success forgives it. Refused tries leave no row.
    """

    account = models.TextField(help_text=_("The id of the user, or the name that was tried when there is none."))
    network = models.TextField(help_text=_("An IPv4 address or an IPv6 network, empty for none."))
    device = models.TextField(help_text=_("The browser, if it had signed in to the account before, else empty."))
    reserved_at = models.DateTimeField(_("tried at"), db_default=Now())
    forgiven_at = models.DateTimeField(_("forgiven at"), null=True)

    class Meta:
        verbose_name = _("login attempt")
        verbose_name_plural = _("login attempts")
        indexes = [
            models.Index(fields=["account", "device", "reserved_at"], name="accounts_attempt_account"),
            models.Index(fields=["network", "reserved_at"], name="accounts_attempt_network", condition=Q(device="")),
            models.Index(fields=["reserved_at"], name="accounts_attempt_age"),
        ]

    def __str__(self) -> str:
        return f"{self.account} / {self.device or self.network}"


class RequestedMail(models.Model):
    """A mail that went to an address because somebody, perhaps a stranger, typed it into a page."""

    email_canonical = models.TextField()
    sent_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("requested mail")
        verbose_name_plural = _("requested mails")
        indexes = [models.Index(fields=["email_canonical", "sent_at"], name="accounts_requested_mail")]

    def __str__(self) -> str:
        return self.email_canonical


class EventDay(models.Model):
    """How often something happened on one day (UTC); counted by `daily` as the audit trail tells of it."""

    day = models.DateField()
    event = models.TextField()
    count = models.PositiveBigIntegerField()

    class Meta:
        verbose_name = _("events of a day")
        verbose_name_plural = _("events of days")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["day", "event"], name="accounts_event_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.event}"


# Views of the database, for looking only.


class UserActivity(models.Model):
    """What was done with one account. For one or a few by id: each asks for the invitations that they made."""

    user = models.OneToOneField(User, on_delete=models.DO_NOTHING, primary_key=True, related_name="+")
    username = models.TextField()
    is_active = models.BooleanField()
    created_at = models.DateTimeField()
    email_verified_at = models.DateTimeField(null=True)
    last_login = models.DateTimeField(null=True)
    login_count = models.PositiveIntegerField()
    invited_by = models.ForeignKey(User, on_delete=models.DO_NOTHING, null=True, related_name="+")
    invited_by_name = models.TextField()
    invitations = models.BigIntegerField()
    people_invited = models.BigIntegerField()
    last_activity_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "accounts_user_activity"
        default_permissions = ()

    def __str__(self) -> str:
        return self.username


class SignupDay(models.Model):
    """How many accounts were made on one day (UTC) and are there still; `added` by administrators and commands.

    `invited` counts who came in by an invitation that day, whatever became of their accounts. Days before yesterday
    come from the materialised view ``accounts_daily_signups``, which `daily` refreshes; the others are counted now.
    """

    day = models.DateField(primary_key=True)
    signups = models.BigIntegerField()
    verified = models.BigIntegerField()
    added = models.BigIntegerField()
    invited = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "accounts_signups_by_day"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.day)
