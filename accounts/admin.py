"""Accounts in the admin console."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import identity, invitations, roles, services
from accounts.errors import MESSAGES, AccountError
from accounts.forms import InviteForm, StaffLoginForm
from accounts.models import Invitation, InvitationQuerySet, Redemption, User
from config.admin import LargeTableAdmin

admin.site.login_form = StaffLoginForm
HISTORY: Any = ["id", "email_verified_at", "last_login", "login_count", "created_at", "updated_at", "version"]
RIGHTS: Any = ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]


def acting_user(request: HttpRequest) -> User:
    return cast("User", request.user)  # the admin lets nobody else in


class UserForm(forms.ModelForm[User]):
    """Add or edit a user. Nobody chooses another person's password: a mailed link lets them do it."""

    class Meta:
        model = User
        fields = [
            "username",
            "look_alike_approved",
            "email",
            "full_name",
            "bio",
            "avatar_url",
            *RIGHTS,
        ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        wanted = User(
            pk=self.instance.pk,
            username=cleaned.get("username", ""),
            look_alike_approved=cleaned.get("look_alike_approved", False),
            email=cleaned.get("email", ""),
        )
        for field, refuse in (("username", services.username_refusal), ("email", services.email_refusal)):
            if field in cleaned and (refusal := refuse(wanted)):
                self.add_error(field, refusal.as_validation_error())
        return cleaned


@admin.register(User)
class UserAdmin(LargeTableAdmin):
    form = UserForm
    list_display = [
        "username",
        "email",
        "full_name",
        "is_active",
        "is_staff",
        "verified",
        "created_at",
        "last_login",
    ]
    list_filter = ["is_active", "is_staff", "is_superuser", "created_at"]
    # The key is a UUIDv7: newest first without another index.
    ordering = ["-id"]
    sortable_by = ("created_at",)  # type: ignore[assignment]  # the base has none
    search_fields = ["username"]  # shows the search box; get_search_results does the work
    search_help_text = _("The beginning of a username or e-mail address, or a whole id.")
    readonly_fields = HISTORY
    filter_horizontal = ["groups", "user_permissions"]
    actions = ["activate", "deactivate", "send_set_password_link"]
    fieldsets = [
        (None, {"fields": ["username", "look_alike_approved", "email", "full_name", "bio", "avatar_url"]}),
        (_("What they may do"), {"fields": RIGHTS}),
        (_("History"), {"fields": HISTORY}),
    ]

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        return {"groups": Group.objects.filter(name=roles.MEMBER), **super().get_changeform_initial_data(request)}

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Only a superuser hands out rights, and nobody changes their own."""
        if obj == request.user or not request.user.is_superuser:
            return [*self.readonly_fields, *RIGHTS]
        return list(self.readonly_fields)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        # An address is a key to the account: who may edit it could take it over.
        above = obj is not None and (obj.is_staff or obj.is_superuser) and obj != request.user
        return super().has_change_permission(request, obj) and (request.user.is_superuser or not above)

    def has_rights_permission(self, request: HttpRequest) -> bool:
        """For the actions that do what `RIGHTS` do in the form."""
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # people are shut out, not deleted: others' records point to them

    @admin.display(boolean=True, description=_("verified"))
    def verified(self, user: User) -> bool:
        return user.email_verified_at is not None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        """Search by prefix on the canonical columns, which the unique indexes serve on any table size."""
        term = search_term.strip()
        if not term:
            return queryset, False
        email = identity.canonical_email(term) if "@" in term else identity.canonical_username(term)
        matches = Q(username_canonical__startswith=identity.canonical_username(term)) | Q(
            email_canonical__startswith=email
        )
        with suppress(ValidationError):
            matches |= Q(pk=forms.UUIDField().clean(term))
        return queryset.filter(matches), False

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except AccountError:
            # Somebody took the name between our check and our write. The second time the form's own check
            # sees them, and explains beside the field with everything typed still there.
            return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: User, form: forms.ModelForm[User], change: bool) -> None:
        if change:
            services.save_user(obj, changed=form.changed_data, acting_user=acting_user(request))
        else:
            services.add_user(obj, acting_user=acting_user(request))

    @admin.action(description=_("Let the selected users in"), permissions=["rights"])
    def activate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, active=True)

    @admin.action(description=_("Shut the selected users out"), permissions=["rights"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, active=False)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[User], *, active: bool) -> None:
        count = services.set_active(queryset, active, acting_user=acting_user(request))
        text = ngettext("%(count)d user changed.", "%(count)d users changed.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

    @admin.action(description=_("Send a link to choose a new password"), permissions=["change"])
    def send_set_password_link(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        count = services.send_set_password_links(queryset, acting_user=acting_user(request))
        text = ngettext("%(count)d mail is on its way.", "%(count)d mails are on their way.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Invitation.State.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> QuerySet[Invitation]:
        """Narrow to one state; the partial indexes find the few that are not used among millions."""
        unused = Q(revoked_at=None, lapsed_at=None, uses__lt=F("max_uses"))
        narrowed = {"revoked": Q(revoked_at__isnull=False), "open": unused}.get(self.value() or "", Q())
        if self.value() not in Invitation.State.values:
            return queryset
        return cast("InvitationQuerySet", queryset.filter(narrowed)).in_state(self.value() or "")


class RedemptionInline(admin.TabularInline[Redemption, Invitation]):
    model = Redemption
    fields = readonly_fields = ("user", "username", "redeemed_at")
    max_num = 0
    can_delete = False
    verbose_name_plural = _("Who came in by it")


@admin.register(Invitation)
class InvitationAdmin(LargeTableAdmin):
    """Invitations are made here and looked at; what can be done to one is on its own page (“View on site”)."""

    list_display = ["whom", "state", "used", "granted", "invited_by_name", "delivery", "created_at", "expires_at"]
    list_filter = [StateFilter, "delivery"]
    ordering = ["-id"]
    search_fields = ["email"]  # shows the search box; get_search_results does the work
    search_help_text = _("The beginning of an e-mail address, or a whole id.")
    actions = ["resend", "revoke"]
    fieldsets = [
        (None, {"fields": ["whom", "domain", "state", "used", "granted", "note"]}),
        (_("History"), {"fields": ["invited_by", "invited_by_name", "authority", "created_at", "expires_at"]}),
        (None, {"fields": ["delivery", "sent_at", "asked_at", "revoked_at", "lapsed_at"]}),
    ]
    inlines = [RedemptionInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invitation]:
        return super().get_queryset(request).select_related("invited_by").prefetch_related("roles")

    def get_fieldsets(self, request: HttpRequest, obj: Invitation | None = None) -> Any:
        fields = ["emails", "domain", "max_uses", "days", "roles", "note"]
        return super().get_fieldsets(request, obj) if obj else [(None, {"fields": fields})]

    def get_form(self, request: HttpRequest, obj: Invitation | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs) if obj else InviteForm.of(acting_user(request))

    def get_inlines(self, request: HttpRequest, obj: Invitation | None) -> Any:
        return self.inlines if obj else []

    def has_change_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        return False  # what was sent is sent; it can be sent again, replaced or revoked

    def has_delete_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        return False  # who invited whom stays readable

    def has_send_permission(self, request: HttpRequest) -> bool:
        """For the actions; the service asks for each invitation as well."""
        return request.user.has_perm("accounts.change_invitation")

    @admin.display(description=_("for"))
    def whom(self, invitation: Invitation) -> str:
        return str(invitation)

    @admin.display(description=_("state"))
    def state(self, invitation: Invitation) -> str:
        return invitation.get_state_display()

    @admin.display(description=_("used"))
    def used(self, invitation: Invitation) -> str:
        return _("%(uses)d of %(max)d") % {"uses": invitation.uses, "max": invitation.max_uses}

    @admin.display(description=_("roles"))
    def granted(self, invitation: Invitation) -> str:
        return ", ".join(group.name for group in invitation.roles.all()) or roles.MEMBER

    @admin.display(description=_("the inviter may still invite so"), boolean=True)
    def authority(self, invitation: Invitation) -> bool:
        return invitations.has_authority(invitation)

    def view_on_site(self, invitation: Invitation) -> str:
        return reverse("invitation_detail", args=[invitation.pk])

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Invitation], search_term: str
    ) -> tuple[QuerySet[Invitation], bool]:
        """Search by prefix on the canonical address, which an index serves on any table size."""
        term = search_term.strip()
        if not term:
            return queryset, False
        matches = Q(email_canonical__startswith=identity.canonical_email(term))
        with suppress(ValidationError):
            matches |= Q(pk=forms.UUIDField().clean(term))
        return queryset.filter(matches), False

    def save_model(self, request: HttpRequest, obj: Invitation, form: InviteForm, change: bool) -> None:
        """Make what the form says; `obj` stands for the first one from here on."""
        made = form.invite()
        obj.__dict__.update(made[0].__dict__)
        if len(made) > 1:
            text = ngettext("%(count)d invitation is on its way.", "%(count)d invitations are on their way.", len(made))
            self.message_user(request, text % {"count": len(made)}, messages.SUCCESS)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing is left to save: the service has given the roles."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except AccountError as refusal:
            messages.error(request, MESSAGES[refusal.code])
            return HttpResponseRedirect(request.path)

    @admin.action(description=_("Send the selected invitations again"), permissions=["send"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        self._act(request, queryset, invitations.resend)

    @admin.action(description=_("Revoke the selected invitations"), permissions=["send"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        self._act(request, queryset, invitations.revoke)

    def _act(self, request: HttpRequest, queryset: QuerySet[Invitation], act: Any) -> None:
        done = 0
        for invitation in queryset:
            try:
                act(invitation.pk, acting_user=acting_user(request))
            except AccountError as refusal:
                self.message_user(request, f"“{invitation}”: {MESSAGES[refusal.code]}", messages.WARNING)
            except PermissionDenied:
                refused = _("“%(invitation)s”: you may not hand out its roles.")
                self.message_user(request, refused % {"invitation": invitation}, messages.WARNING)
            else:
                done += 1
        text = ngettext("%(count)d invitation changed.", "%(count)d invitations changed.", done)
        self.message_user(request, text % {"count": done}, messages.SUCCESS if done else messages.INFO)
