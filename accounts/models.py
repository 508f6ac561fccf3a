"""Accounts in the database. Constraints decide: what is written here cannot be got round by any writer."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import check_password, is_password_usable, make_password
from django.contrib.auth.models import Group, PermissionsMixin
from django.contrib.postgres.indexes import OpClass
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, URLValidator
from django.db import models, transaction
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.expressions import OrderBy
from django.db.models.functions import Collate, Lower, Now
from django.db.models.indexes import IndexExpression
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

import auditlog
from accounts import identity, policy
from accounts.fields import DerivedTextField, unchanged
from accounts.user_agents import readable


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


class UserState(models.TextChoices):
    """Where an account is in its life; `life_cycle` has what leads from one to the other."""

    ACTIVE = "active", _("active")
    DEACTIVATED = "deactivated", _("deactivated")
    SCHEDULED = "scheduled", _("to be erased")
    ERASED = "erased", _("erased")


# As people are searched for; the last word is most people's family name. Each has an index.
FOLDED_NAME = Lower("full_name")
FAMILY_NAME = Lower(Func("full_name", Value("[^ ]+$"), function="SUBSTRING", output_field=models.TextField()))
IndexExpression.register_wrappers(OrderBy, OpClass, Collate)  # all that django.contrib.postgres would do for us


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
    # NULL in rows of before there was the column; they are not looked at again until they are renamed.
    username_digests = DerivedTextField(source="username", derive=identity.name_digests, null=True)
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
    # Empty: as the browser and the site say. The database's own default lets a version without them go on inserting.
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, default="", db_default="")
    language = models.CharField(_("language"), max_length=16, blank=True, default="", db_default="")
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Clear this instead of deleting the account.")
    )
    is_staff = models.BooleanField(_("staff"), default=False, help_text=_("May enter this admin site."))
    login_count = models.PositiveIntegerField(_("number of logins"), default=0, editable=False)
    signup_key = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated"), default=timezone.now, editable=False)
    erase_at = models.DateTimeField(_("to be erased at"), null=True, editable=False)
    # Erased: the row is a tombstone, to which others' records point (see `life_cycle`).
    deleted_at = models.DateTimeField(_("erased"), null=True, editable=False)
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
            models.Index(
                fields=["id"], name="accounts_user_deactivated", condition=Q(is_active=False, deleted_at=None)
            ),
            models.Index(fields=["erase_at"], name="accounts_user_erase_at", condition=Q(erase_at__isnull=False)),
            models.Index(fields=["id"], name="accounts_user_erased", condition=Q(deleted_at__isnull=False)),
            models.Index(fields=["id"], name="accounts_user_staff", condition=Q(is_staff=True)),
            models.Index(fields=["id"], name="accounts_user_superuser", condition=Q(is_superuser=True)),
            models.Index(
                OpClass(FOLDED_NAME, name="text_pattern_ops"),
                name="accounts_user_full_name",
                condition=~Q(full_name=""),
            ),
            models.Index(
                OpClass(FAMILY_NAME, name="text_pattern_ops"),
                name="accounts_user_family_name",
                condition=~Q(full_name=""),
            ),
        ]
        permissions = [("erase_user", "Can erase users")]

    def __str__(self) -> str:
        return self.username if self.deleted_at is None else gettext("erased person")

    def __repr__(self) -> str:
        return f"<User {self.pk} {self.username!r}>"

    @property
    def initials(self) -> str:
        """One or two capitals that stand for the person's picture."""
        words = (self.full_name or self.username).replace(".", " ").replace("_", " ").replace("-", " ").split()
        return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper()

    @property
    def state(self) -> UserState:
        if self.deleted_at is not None:
            return UserState.ERASED
        if self.erase_at is not None:
            return UserState.SCHEDULED
        return UserState.ACTIVE if self.is_active else UserState.DEACTIVATED

    @property
    def may_sign_in(self) -> bool:
        return self.state == UserState.ACTIVE and self.email_verified_at is not None

    def clean(self) -> None:
        # AbstractBaseUser.clean would put the NFKC form in place of what the person typed.
        self.username, self.email = self.username.strip(), self.email.strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        update_fields = kwargs.get("update_fields")
        if update_fields is not None:
            kwargs["update_fields"] = _with_derived(set(update_fields))
        writes_password = update_fields is None or "password" in update_fields
        # Of who is erased nothing is kept.
        keeps_former = settings.PASSWORD_HISTORY and self.deleted_at is None and not self._state.adding
        if keeps_former and writes_password:
            with transaction.atomic():
                FormerPassword.objects.keep(self)
                super().save(*args, **kwargs)
        else:
            super().save(*args, **kwargs)

    def get_full_name(self) -> str:
        return self.full_name or str(self)

    def get_short_name(self) -> str:
        return str(self)

    def set_password(self, raw_password: str | None) -> None:
        """Apply the policy, then hash; None makes a password that nobody can sign in with.

        Raises ValidationError with every broken rule. The hash takes a quarter of a second, and so does each that
        `PASSWORD_HISTORY` compares with: set the password before a transaction is opened.
        """
        if raw_password is not None:
            if refusals := policy.judge(raw_password, self).refusals:
                raise ValidationError(refusals)
            if not self._state.adding:
                FormerPassword.objects.require_new(self, raw_password)
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


class FormerPasswordManager(models.Manager["FormerPassword"]):
    """The last `PASSWORD_HISTORY` passwords of each person, when there is such a setting."""

    def require_new(self, user: User, raw_password: str) -> None:
        """Raise ValidationError (``password_used_before``) when it is the current or one of the kept ones."""
        if not settings.PASSWORD_HISTORY:
            return
        current = User.objects.filter(pk=user.pk).values_list("password", flat=True)
        former = self._newest_of(user).values_list("password", flat=True)[: settings.PASSWORD_HISTORY]
        # Without the upgrade of an old hash: what was is kept as it was.
        if any(check_password(raw_password, each) for each in [*current, *former]):
            text = gettext("You have used this password before. Please choose another one.")
            raise ValidationError(text, code="password_used_before")

    def keep(self, user: User) -> None:
        """Keep the stored password of `user`, which is about to be replaced in the caller's transaction.

        It is read under the row's lock: of two changes at once, the second keeps what the first has set.
        """
        stored = User.objects.select_for_update().filter(pk=user.pk).exclude(password=user.password)
        for replaced in stored.values_list("password", flat=True):
            if is_password_usable(replaced):
                self.create(user=user, password=replaced)
        beyond = self._newest_of(user).values_list("pk", flat=True)[settings.PASSWORD_HISTORY :]
        self.filter(pk__in=list(beyond)).delete()

    def _newest_of(self, user: User) -> models.QuerySet[FormerPassword]:
        return self.filter(user=user).order_by("-pk")


class FormerPassword(models.Model):
    """The hash of a password that was replaced, so that it is not chosen again; none without `PASSWORD_HISTORY`.

    Kept by `User.save`, so by every way to change a password. The upgrade of a hash at a login is no change of the
    password, and goes past it.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, db_index=False, related_name="former_passwords")
    password = models.CharField(_("password"), max_length=128)
    replaced_at = models.DateTimeField(_("replaced"), default=timezone.now)

    objects = FormerPasswordManager()

    class Meta:
        verbose_name = _("former password")
        verbose_name_plural = _("former passwords")
        indexes = [models.Index(fields=["user", "-id"], name="accounts_former_password_user")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.replaced_at:%Y-%m-%d}"


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


class ErasedName(models.Model):
    """A name that nobody ever gets again: its bearer was erased, and nobody shall be taken for them.

    Not the name itself, but its digest with a key that the database does not have (see `identity.name_digests`).
    A trigger on the user table refuses whoever has one of these among the own `username_digests`.
    """

    digest = models.TextField(primary_key=True)
    hash_key = models.TextField(help_text=_("Which key made it, by its id."))
    erased_at = models.DateTimeField(_("erased"), db_default=Now())

    class Meta:
        verbose_name = _("name of an erased person")
        verbose_name_plural = _("names of erased people")
        indexes = [models.Index(fields=["hash_key"], name="accounts_erasedname_key")]

    def __str__(self) -> str:
        return self.digest


class AddressChange(models.Model):
    """A new e-mail address that somebody asked for, and the old one, which can be restored for a while.

    Its links are made of `id`, signed (see `links`). While `undo_until` lies ahead, nobody else can have the old
    address: a trigger on the user table refuses it as one that is taken (see the migrations).
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting for confirmation")
        CONFIRMED = "confirmed", _("confirmed")
        UNDONE = "undone", _("undone")
        DROPPED = "dropped", _("given up")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, db_index=False, related_name="address_changes")
    old_email = models.CharField(_("old e-mail address"), max_length=identity.LONGEST_EMAIL)
    old_email_canonical = DerivedTextField(source="old_email", derive=identity.canonical_email)
    old_verified_at = models.DateTimeField(_("old address verified at"), null=True)
    new_email = models.CharField(_("new e-mail address"), max_length=identity.LONGEST_EMAIL)
    new_email_canonical = DerivedTextField(source="new_email", derive=identity.canonical_email)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.WAITING)
    requested_at = models.DateTimeField(_("asked for"), db_default=Now())
    confirmed_at = models.DateTimeField(_("confirmed at"), null=True)
    undo_until = models.DateTimeField(_("can be undone until"), null=True)

    class Meta:
        verbose_name = _("change of address")
        verbose_name_plural = _("changes of address")
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(state="waiting"), name="accounts_address_change_one_waiting"
            )
        ]
        indexes = [
            models.Index(fields=["user", "requested_at"], name="accounts_address_change_user"),
            models.Index(
                fields=["old_email_canonical"],
                name="accounts_address_change_old",
                condition=Q(undo_until__isnull=False),
            ),
            models.Index(fields=["requested_at"], name="accounts_address_change_age"),
        ]

    def __str__(self) -> str:
        return self.new_email


class DataExport(models.Model):
    """A copy of what is kept about somebody, which they asked for; its content is in `pieces` (see `exporting`)."""

    class State(models.TextChoices):
        WAITING = "waiting", _("being made")
        READY = "ready", _("ready")
        FAILED = "failed", _("not made yet")
        OVER = "over", _("not kept any more")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, db_index=False, related_name="data_exports")
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.WAITING)
    size = models.PositiveBigIntegerField(_("bytes"), default=0)
    asked_at = models.DateTimeField(_("asked for"), db_default=Now())
    made_at = models.DateTimeField(_("made"), null=True)
    expires_at = models.DateTimeField(_("expires"), null=True)

    class Meta:
        verbose_name = _("data export")
        verbose_name_plural = _("data exports")
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(state="waiting"), name="accounts_data_export_one_waiting"
            )
        ]
        indexes = [
            models.Index(fields=["user", "asked_at"], name="accounts_data_export_user"),
            models.Index(fields=["asked_at"], name="accounts_data_export_age"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def state_now(self) -> str:
        """One of `State`, by our own clock: for showing."""
        expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.State.OVER if expired else self.state


class DataExportPiece(models.Model):
    """So many bytes of a copy; rows of bounded size, because neither a worker nor a page holds all of it."""

    export = models.ForeignKey(DataExport, on_delete=models.CASCADE, db_index=False, related_name="pieces")
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        verbose_name = _("piece of a data export")
        verbose_name_plural = _("pieces of data exports")
        constraints = [models.UniqueConstraint(fields=["export", "number"], name="accounts_data_export_piece")]

    def __str__(self) -> str:
        return f"{self.export_id} {self.number}"


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


class Import(models.Model):
    """A file of people, checked and then written a batch at a time; `position` moves in a batch's transaction.

    `content` holds what a page was sent, until all of it is written; a command reads its own file. `verdicts` are
    those on the rows of a page: of the dry run first, then of what was done.
    """

    class Kind(models.TextChoices):
        USERS = "users", _("people")
        INVITATIONS = "invitations", _("invitations")

    class State(models.TextChoices):
        CHECKED = "checked", _("checked, nothing is written yet")
        QUEUED = "queued", _("waiting for the worker")
        RUNNING = "running", _("being written")
        DONE = "done", _("done")
        FAILED = "failed", _("stopped")
        DISCARDED = "discarded", _("discarded, nothing was written")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(_("of"), max_length=12, choices=Kind.choices)
    state = models.CharField(_("state"), max_length=10, choices=State.choices)
    code = models.CharField(_("why it stopped"), max_length=50, blank=True)
    file_name = models.CharField(_("file"), max_length=200)
    sha256 = models.CharField(max_length=64)
    content = models.BinaryField(default=bytes, editable=False)
    rows = models.PositiveIntegerField(_("rows"))
    position = models.PositiveIntegerField(_("rows done"), default=0)
    update_existing = models.BooleanField(_("changes those who exist"), default=False)
    send_mail = models.BooleanField(_("mails a link to choose a password"), default=False)
    counts = models.JSONField(_("counts"), default=dict)
    verdicts = models.JSONField(_("verdicts"), default=list)
    started_by = models.ForeignKey(
        User, verbose_name=_("by"), on_delete=models.SET_NULL, null=True, related_name="imports"
    )
    started_by_name = models.CharField(_("by"), max_length=200)
    from_command = models.BooleanField(_("by a command"), default=False)
    created_at = models.DateTimeField(_("begun"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True)

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        default_permissions = ["view"]
        constraints = [
            models.CheckConstraint(condition=Q(position__lte=F("rows")), name="accounts_import_position"),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="accounts_import_created"),
            models.Index(fields=["sha256"], name="accounts_import_unfinished", condition=Q(ended_at=None)),
        ]

    def __str__(self) -> str:
        return self.file_name


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


class SessionQuerySet(models.QuerySet["Session"]):
    def alive(self) -> SessionQuerySet:
        """Return those that still open something: neither too old nor unused for too long, by the database's clock."""
        staff = Q(user__is_staff=True)
        return self.filter(
            _used_within(settings.SESSION_HOURS, settings.SESSION_IDLE_MINUTES),
            ~staff | Q(user=None) | _used_within(settings.STAFF_SESSION_HOURS, settings.STAFF_SESSION_IDLE_MINUTES),
            expires_at__gt=Now(),
        )


def _used_within(hours: int, idle_minutes: int) -> Q:
    begun, seen = Now() - timedelta(hours=hours), Now() - timedelta(minutes=idle_minutes)
    return Q(first_seen_at__gt=begun, last_seen_at__gt=seen)


class Session(models.Model):
    """A browser that is, or is about to be, signed in; written by `session_engine`.

    The database holds a digest of its key only, deletes it with its user, and refuses one for whoever may have none.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    key_digest = models.CharField(max_length=64)
    data = models.TextField()
    # The constraint is made by hand in a migration: the database deletes the rows, not Django's collector.
    user = models.ForeignKey(
        User, on_delete=models.DO_NOTHING, null=True, db_index=False, db_constraint=False, related_name="sessions"
    )
    address = models.GenericIPAddressField(null=True)
    agent = models.TextField(blank=True)
    first_seen_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    must_rotate = models.BooleanField(db_default=False, help_text=_("The next request gets another key."))

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        constraints = [models.UniqueConstraint(fields=["key_digest"], name="accounts_session_key")]
        indexes = [
            models.Index(fields=["user"], name="accounts_session_user", condition=Q(user__isnull=False)),
            models.Index(fields=["expires_at"], name="accounts_session_expiry"),
        ]

    def __str__(self) -> str:
        return self.device

    @property
    def device(self) -> str:
        """What people call the browser."""
        return readable(self.agent)


# Beside the others, because Django looks for models here; they stand on `User`.
from accounts.second_factor import models as second_factor_models  # noqa: E402, F401
