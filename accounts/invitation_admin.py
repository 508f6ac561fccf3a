"""Invitations in the admin console."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import identity, invitations, roles
from accounts.errors import AccountError
from accounts.figures_page import figures_page
from accounts.forms import InviteForm
from accounts.invitation_views import tell_what_was_made
from accounts.models import Invitation, InvitationQuerySet, User
from config.admin import LargeTableAdmin

SHOWN = 50  # people on the page of an invitation, which may have let in thousands


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Invitation.State.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> QuerySet[Invitation]:
        """Narrow to one state, in words that the partial indexes understand: few may be so among millions."""
        state, unused = self.value() or "", Q(uses__lt=F("max_uses"))
        indexed = {
            "open": unused & Q(expires_at__gt=Now()),
            "expired": unused & (Q(expires_at__lte=Now()) | Q(lapsed_at__isnull=False)),
            "used": Q(uses__gte=F("max_uses")),
            "revoked": Q(revoked_at__isnull=False),
        }
        if state not in indexed:
            return queryset
        return cast("InvitationQuerySet", queryset.filter(indexed[state])).in_state(state)


@admin.register(Invitation)
class InvitationAdmin(LargeTableAdmin):
    """Invitations are made here and looked at; what can be done to one is on its own page (“View on site”)."""

    list_display = ["whom", "state", "expires_at", "used", "granted", "delivery", "invited_by_name"]
    list_filter = [StateFilter, "delivery"]
    ordering = ["-id"]
    search_fields = ["email"]  # shows the search box; get_search_results does the work
    search_help_text = _("The beginning of an e-mail address, or a whole id.")
    actions = ["resend", "revoke"]
    fieldsets = [
        (None, {"fields": ["whom", "domain", "state", "used", "granted", "note"]}),
        (_("History"), {"fields": ["invited_by", "invited_by_name", "authority", "created_at", "expires_at"]}),
        (None, {"fields": ["delivery", "sent_at", "asked_at", "revoked_at", "lapsed_at", "came_in"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invitation]:
        return super().get_queryset(request).select_related("invited_by").prefetch_related("roles")

    def get_urls(self) -> list[URLPattern]:
        figures = self.admin_site.admin_view(partial(figures_page, self))
        return [path("figures/", figures, name="accounts_invitation_figures"), *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: Invitation | None = None) -> Any:
        fields = ["by", "emails", "domain", "max_uses", "days", "roles", "note"]
        return super().get_fieldsets(request, obj) if obj else [(None, {"fields": fields})]

    def get_form(self, request: HttpRequest, obj: Invitation | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs) if obj else InviteForm.of(cast("User", request.user))

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

    @admin.display(description=_("the newest who came in by it"), empty_value="")
    def came_in(self, invitation: Invitation) -> str:
        newest = invitation.redemptions.order_by("-pk")[:SHOWN]
        return ", ".join(redemption.username for redemption in newest)

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
        tell_what_was_made(request, made)

    def response_add(self, request: HttpRequest, obj: Invitation, post_url_continue: str | None = None) -> HttpResponse:
        """Go on without Django's own message: `save_model` has said what was made, perhaps more than one."""
        page = reverse("admin:accounts_invitation_change", args=[obj.pk])
        return HttpResponseRedirect(page if not obj.email else reverse("admin:accounts_invitation_changelist"))

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
            messages.error(request, refusal.message)
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
                act(invitation.pk, acting_user=cast("User", request.user))
            except AccountError as refusal:
                name = _("“%(name)s”") % {"name": invitation}
                self.message_user(request, f"{name}: {refusal.message}", messages.WARNING)
            except PermissionDenied:
                refused = _("“%(invitation)s”: you may not hand out its roles.")
                self.message_user(request, refused % {"invitation": invitation}, messages.WARNING)
            else:
                done += 1
        text = ngettext("%(count)d invitation changed.", "%(count)d invitations changed.", done)
        self.message_user(request, text % {"count": done}, messages.SUCCESS if done else messages.INFO)
