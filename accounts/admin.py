"""Accounts in the admin console."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import import_admin as import_admin  # registers its models
from accounts import invitation_admin as invitation_admin
from accounts import lockout, roles, rules, searching, services
from accounts.errors import AccountError
from accounts.forms import StaffLoginForm
from accounts.models import LoginAttempt, User
from accounts.role_admin import ChangesRoles
from config.admin import LargeTableAdmin, LargeTableChangeList
from config.client_address import network_of

admin.site.login_form = StaffLoginForm
HISTORY: Any = ["id", "email_verified_at", "last_login", "login_count", "created_at", "updated_at", "version"]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
class UserAdmin(ChangesRoles, LargeTableAdmin):
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
    search_help_text = _("The beginning of a username, e-mail address, full name or family name, or a whole id.")
    readonly_fields = HISTORY
    filter_horizontal = ["groups", "user_permissions"]
    actions = ["activate", "deactivate", "send_set_password_link", "unlock", "give_role", "take_role"]
    fieldsets = [
        (None, {"fields": ["username", "look_alike_approved", "email", "full_name", "bio", "avatar_url"]}),
        (_("What they may do"), {"fields": RIGHTS}),
        (_("History"), {"fields": HISTORY}),
    ]

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        return {"groups": Group.objects.filter(name=roles.MEMBER), **super().get_changeform_initial_data(request)}

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Only a superuser hands out rights, and nobody changes their own."""
        if not request.user.is_superuser or (obj and not rules.may(acting_user(request), "change_rights", obj)):
            return [*self.readonly_fields, *RIGHTS]
        return list(self.readonly_fields)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or rules.may(acting_user(request), "edit_user", obj))

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
        if not search_term.strip():
            return queryset, False
        found = searching.find(queryset, search_term)
        if found.more and request.method == "GET":
            text = _("Many begin like this, and only some of them are shown. Type more letters to find the others.")
            self.message_user(request, text, messages.INFO)
        return queryset.filter(pk__in=found.ids), False

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

    @admin.action(description=_("Unlock the selected users"), permissions=["change"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        users = [user for user in queryset if rules.may(acting_user(request), "unlock", user)]
        for user in users:
            services.unlock(account=str(user.pk), acting_user=acting_user(request))
        text = ngettext("%(count)d user can sign in again.", "%(count)d users can sign in again.", len(users))
        self.message_user(request, text % {"count": len(users)}, messages.SUCCESS if users else messages.WARNING)


class LockedNow(admin.SimpleListFilter):
    title = _("locked now")
    parameter_name = "locked"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes, by these tries"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LoginAttempt]) -> QuerySet[LoginAttempt]:
        return lockout.locking(queryset) if self.value() == "yes" else queryset


class LoginAttemptChangeList(LargeTableChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """Look up whose accounts the page shows and what locks them, for its rows only and all at once."""
        super().get_results(request)
        shown = LoginAttempt.objects.filter(pk__in=[attempt.pk for attempt in self.result_list])
        attempts: list[Any] = list(lockout.with_lock(shown).order_by("-pk"))
        ids = {attempt.account for attempt in attempts if _UUID.fullmatch(attempt.account)}
        users = {str(user.pk): user for user in User.objects.filter(pk__in=ids)}
        for attempt in attempts:
            attempt.user = users.get(attempt.account)
        self.result_list = attempts


class RoleAdmin(GroupAdmin):
    """Groups decide what their members may do, so who edits them is above all of them: superusers only."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        # What is declared in code is written by every migrate; an edit here would not last.
        return bool(request.user.is_superuser) and (obj is None or obj.name not in roles.ROLES)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return self.has_change_permission(request, obj)


admin.site.unregister(Group)
admin.site.register(Group, RoleAdmin)


@admin.register(LoginAttempt)
class LoginAttemptAdmin(LargeTableAdmin):
    """Who tried to sign in as whom, for as long as it counts, and who is locked now. For reading only."""

    list_display = ["reserved_at", "whose", "locked_until", "network", "known_browser", "forgiven_at"]
    list_display_links = None
    list_filter = [LockedNow]
    ordering = ["-id"]
    search_fields = ["account"]  # shows the search box; get_search_results does the work
    search_help_text = _("A whole username, e-mail address or network address.")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LoginAttemptChangeList]:
        return LoginAttemptChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LoginAttempt | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LoginAttempt | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LoginAttempt], search_term: str
    ) -> tuple[QuerySet[LoginAttempt], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        matches = Q(account=lockout.account_of(term))
        with suppress(ValueError):
            matches |= Q(network=network_of(term))
        return queryset.filter(matches), False

    @admin.display(description=_("account"))
    def whose(self, attempt: Any) -> str:
        """The user, with a link, or the name that was tried."""
        if attempt.user is None:
            return lockout.shown_name(attempt.account)
        address = reverse("admin:accounts_user_change", args=[attempt.user.pk])
        return format_html('<a href="{}">{}</a>', address, attempt.user.username)

    @admin.display(boolean=True, description=_("known browser"))
    def known_browser(self, attempt: LoginAttempt) -> bool:
        return bool(attempt.device)

    @admin.display(description=_("locked until"), empty_value="")
    def locked_until(self, attempt: Any) -> datetime | None:
        return cast("datetime | None", attempt.locked_until)
