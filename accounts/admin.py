"""Accounts in the admin console."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin
from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

import auditlog
from accounts import import_admin as import_admin  # registers its models
from accounts import invitation_admin as invitation_admin  # registers its models
from accounts import lockout, reauthentication, role_changes, roles, rules, searching, services, telling
from accounts.asking_admin import Question
from accounts.errors import AccountError, Sorted
from accounts.life_cycle_admin import LifeCycleAdmin, StateFilter
from accounts.models import LoginAttempt, User, UserState
from accounts.role_admin import ChangesRoles
from accounts.second_factor import events as second_factor_events
from accounts.views import StaffLogin
from config.admin import LargeTableAdmin, LargeTableChangeList
from config.client_address import network_of
from config.editing import VersionedAdmin
from config.templatetags.moments import moment

admin.site.login_view = StaffLogin  # type: ignore[attr-defined]  # of GatehouseAdminSite, as the next
admin.site.guard = reauthentication.guard_admin  # type: ignore[attr-defined]
HISTORY: Any = ["id", "state", "email_verified_at", "last_login", "login_count", "created_at", "updated_at", "version"]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RIGHTS: Any = ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]


def acting_user(request: HttpRequest) -> User:
    return cast("User", request.user)  # the admin lets nobody else in


class UserForm(forms.ModelForm[User]):
    """Add or edit a user. Nobody chooses another person's password: a mailed link lets them do it."""

    refusal: AccountError | None = None  # of what was just tried

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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in {"username", "email", "full_name"} & self.fields.keys():
            self.fields[name].widget.attrs["autocomplete"] = "off"  # the browser knows the administrator's own

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
        if self.refusal and not self.errors:
            self.add_error(None, self.refusal.as_validation_error())
        return cleaned


@admin.register(User)
class UserAdmin(VersionedAdmin, LifeCycleAdmin, ChangesRoles, LargeTableAdmin):
    form = UserForm
    list_display = [
        "username",
        "email",
        "full_name",
        "state",
        "is_staff",
        "verified",
        "created_at",
        "last_login",
    ]
    list_filter = [StateFilter, "is_staff", "is_superuser", "created_at"]
    # The key is a UUIDv7: newest first without another index.
    ordering = ["-id"]
    sortable_by = ("created_at",)  # type: ignore[assignment]  # the base has none
    search_fields = ["username"]  # shows the search box; get_search_results does the work
    search_help_text = _("The beginning of a username, e-mail address, full name or family name, or a whole id.")
    readonly_fields = HISTORY
    filter_horizontal = ["user_permissions"]
    actions = [
        "deactivate",
        "restore",
        "schedule_erasure",
        "cancel_erasure",
        "erase",
        "give_role",
        "take_role",
        "send_set_password_link",
        "send_recovery_link",
        "unlock",
        "sign_out",
    ]
    fieldsets = [
        (None, {"fields": ["username", "look_alike_approved", "email", "full_name", "bio", "avatar_url"]}),
        (_("What they may do"), {"fields": RIGHTS[:-1]}),
        (_("Single permissions"), {"fields": RIGHTS[-1:], "classes": ["collapse"]}),
        (_("History"), {"fields": HISTORY}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        shown: Any = list(super().get_fieldsets(request, obj))
        if obj is None:
            return shown[:-1]  # who is new has no history
        may_erase = obj != request.user and self.has_erase_permission(request, obj)
        return [*shown, *([(None, {"fields": ["erase_link"]})] if may_erase else [])]

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        return {"groups": Group.objects.filter(name=roles.MEMBER), **super().get_changeform_initial_data(request)}

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Only a superuser hands out rights, and nobody changes their own."""
        if not request.user.is_superuser or (obj and not rules.may(acting_user(request), "change_rights", obj)):
            return [*self.readonly_fields, "erase_link", *RIGHTS]
        return [*self.readonly_fields, "erase_link"]

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            kwargs["widget"] = forms.CheckboxSelectMultiple()
        if db_field.name == "user_permissions":
            # The label of each names its content type, which would be looked up one by one.
            kwargs["queryset"] = Permission.objects.select_related("content_type")
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        if obj is not None and obj.state == UserState.ERASED:
            return False
        return allowed and (obj is None or rules.may(acting_user(request), "edit_user", obj))

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
        except AccountError as refusal:
            # Somebody took the name between our check and our write: the second time the form's own check sees them,
            # and explains beside the field. What no field is about stands above all; everything typed is still there.
            request.refusal = refusal  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)  # made anew for each request
        form.refusal = getattr(request, "refusal", None)
        return form

    def save_model(self, request: HttpRequest, obj: User, form: forms.ModelForm[User], change: bool) -> None:
        settled = self._settle_staff(obj, form)
        if change:
            services.save_user(obj, changed=form.changed_data, acting_user=acting_user(request))
        else:
            services.add_user(obj, acting_user=acting_user(request))
        if settled:
            may = _("“%(user)s” may enter this site now, by their role.")
            may_not = _("“%(user)s” may not enter this site any more: no role lets them in.")
            self.message_user(request, (may if obj.is_staff else may_not) % {"user": obj}, messages.INFO)

    def _settle_staff(self, obj: User, form: forms.ModelForm[User]) -> bool:
        """Let the box “Staff” follow the roles, unless the person who edits has changed it; whether that changed it.

        It is written with the rest of the row: one statement, one record.
        """
        if "groups" not in form.changed_data or "is_staff" in form.changed_data:
            return False
        after = role_changes.is_staff_after(obj, obj.groups.all(), form.cleaned_data["groups"])
        if obj.is_staff == after:
            return False
        obj.is_staff = after
        form.changed_data.append("is_staff")
        return True

    @admin.action(description=_("Send a link to choose a new password"), permissions=["change"])
    def send_set_password_link(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._tell_mailed(request, services.send_set_password_links(queryset, acting_user=acting_user(request)))

    @admin.action(description=_("Send a link to begin anew without a second factor"), permissions=["change"])
    def send_recovery_link(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        sent = second_factor_events.send_recovery_links(queryset, acting_user=acting_user(request))
        self._tell_mailed(request, sent)

    def _tell_mailed(self, request: HttpRequest, people: Sorted) -> None:
        count = len(people.done)
        text = ngettext("%(count)d mail is on its way.", "%(count)d mails are on their way.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.INFO)
        telling.tell_left_out(request, people.left_out)

    @admin.action(description=_("Unlock the selected users"), permissions=["change"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        people = Sorted()
        for user in queryset:
            people.add(user, None if rules.may(acting_user(request), "unlock", user) else "person_above_own")
        for user in people.done:
            services.unlock(account=str(user.pk), acting_user=acting_user(request))
        count = len(people.done)
        text = ngettext("%(count)d user can sign in again.", "%(count)d users can sign in again.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.INFO)
        telling.tell_left_out(request, people.left_out)

    @admin.action(description=_("Sign the selected users out everywhere"), permissions=["change"])
    def sign_out(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self.ask(request, queryset, "sign_out")

    def _sign_out(self, request: HttpRequest, queryset: QuerySet[User], reason: str) -> None:
        people = Sorted()
        for user in queryset:
            people.add(user, self._why_not_signed_out(request, user))
        with auditlog.acting_as(reason=reason):
            count = services.sign_out_everywhere(people.done, acting_user=acting_user(request))
        text = ngettext("%(count)d session ended.", "%(count)d sessions ended.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.INFO)
        telling.tell_left_out(request, people.left_out)

    questions: ClassVar[dict[str, Question]] = {
        **LifeCycleAdmin.questions,
        "sign_out": Question(_("Sign people out everywhere"), _("They can sign in again at once."), _sign_out),
    }

    def _why_not_signed_out(self, request: HttpRequest, user: User) -> str | None:
        if user == acting_user(request):
            return "own_sessions"
        if user.state == UserState.ERASED:
            return "account_erased"
        return None if self.has_change_permission(request, user) else "person_above_own"


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
    def locked_until(self, attempt: Any) -> str | None:
        return moment(attempt.locked_until) if attempt.locked_until else None
