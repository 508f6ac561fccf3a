"""The admin's way to give a role to many people at once, or to take it: an action, a confirmation, verdicts."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import identity, role_changes, roles
from accounts.models import User

MOST = 1000  # people whose roles one page changes; the command takes any number
NAMED = 20  # of them on the page that asks
REFUSED_SHOWN = 10


class RoleChangeForm(forms.Form):
    """Which role, for whom, and why."""

    ids = forms.CharField(max_length=40 * MOST, widget=forms.HiddenInput)
    give = forms.TypedChoiceField(
        choices=[("1", ""), ("0", "")], coerce=lambda text: text == "1", widget=forms.HiddenInput
    )
    role = forms.ModelChoiceField(label=_("Role"), queryset=Group.objects.none())
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=200,
        validators=[identity.validate_one_line],
        help_text=_("Optional. It is kept in the audit trail."),
    )

    def __init__(self, *args: Any, acting_user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast("forms.ModelChoiceField[Group]", self.fields["role"]).queryset = roles.grantable(acting_user)

    def clean_ids(self) -> list[UUID]:
        field = forms.UUIDField()
        ids = [cast("UUID", field.clean(text)) for text in self.cleaned_data["ids"].split(",")]
        if len(ids) > MOST:
            raise ValidationError(_("Too many people."), code="too_many")
        return ids


class ChangesRoles(admin.ModelAdmin[User]):
    """Adds to a user admin what changes the roles of many."""

    def has_roles_permission(self, request: HttpRequest) -> bool:
        """For the actions; the rules decide about each person."""
        return request.user.has_perm("accounts.change_user")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.roles_view)
        return [path("roles/", view, name="accounts_user_roles"), *super().get_urls()]

    @admin.action(description=_("Give a role to the selected users"), permissions=["roles"])
    def give_role(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self._ask(request, queryset, give=True)

    @admin.action(description=_("Take a role from the selected users"), permissions=["roles"])
    def take_role(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self._ask(request, queryset, give=False)

    def _ask(self, request: HttpRequest, queryset: QuerySet[User], *, give: bool) -> HttpResponse | None:
        people = list(queryset.only("pk", "username")[: MOST + 1])
        if len(people) > MOST:
            text = _("At most %(most)d people at a time. Narrow the list, or use the command “manage.py roles”.")
            self.message_user(request, text % {"most": MOST}, messages.ERROR)
            return None
        initial = {"ids": ",".join(str(user.pk) for user in people), "give": "1" if give else "0"}
        form = RoleChangeForm(initial=initial, acting_user=cast("User", request.user))
        names = [user.username for user in people]
        return self._page(request, form, give=give, count=len(people), names=names)

    def _page(self, request: HttpRequest, form: RoleChangeForm, *, give: bool, **more: Any) -> HttpResponse:
        names = more.pop("names", [])
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Give a role") if give else _("Take a role"),
            "form": form,
            "names": names[:NAMED],
            "unnamed": max(0, len(names) - NAMED),
            **more,
        }
        status = 422 if form.is_bound else 200
        return TemplateResponse(request, "accounts/role_change.html", context, status=status)

    def roles_view(self, request: HttpRequest) -> HttpResponse:
        """Do what was confirmed, and say what became of each."""
        if not self.has_roles_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        user = cast("User", request.user)
        form = RoleChangeForm(request.POST, acting_user=user)
        if not form.is_valid():
            give = request.POST.get("give") != "0"
            return self._page(request, form, give=give, count=request.POST.get("ids", "").count(",") + 1)
        cleaned = form.cleaned_data
        self._tell(
            request,
            list(
                role_changes.change_roles(
                    cleaned["ids"], cleaned["role"], give=cleaned["give"], acting_user=user, reason=cleaned["reason"]
                )
            ),
        )
        return HttpResponseRedirect(reverse("admin:accounts_user_changelist"))

    def _tell(self, request: HttpRequest, verdicts: list[role_changes.Verdict]) -> None:
        done = sum(verdict.code == "done" for verdict in verdicts)
        text = ngettext("%(count)d user changed.", "%(count)d users changed.", done)
        self.message_user(request, text % {"count": done}, messages.SUCCESS if done else messages.INFO)
        refused = [verdict for verdict in verdicts if verdict.refused]
        for verdict in refused[:REFUSED_SHOWN]:
            self.message_user(request, f"“{verdict.user}”: {verdict.words}", messages.WARNING)
        if (more := len(refused) - REFUSED_SHOWN) > 0:
            text = ngettext("and %(count)d more was refused.", "and %(count)d more were refused.", more)
            self.message_user(request, text % {"count": more}, messages.WARNING)
