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
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import identity, role_changes, roles, telling
from accounts.models import User

MOST = 1000  # people whose roles one page changes; the command takes any number
NAMED = 20  # of them on the page that asks


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
        return self._page(request, form, give=give, names=names)

    def _page(self, request: HttpRequest, form: RoleChangeForm, *, give: bool, names: list[str]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Give a role") if give else _("Take a role"),
            "form": form,
            "count": len(names),
            "names": names[:NAMED],
            "unnamed": max(0, len(names) - NAMED),
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
            ids = form.cleaned_data.get("ids", [])
            found = dict(self.get_queryset(request).filter(pk__in=ids).values_list("pk", "username"))
            names = [found[pk] for pk in dict.fromkeys(ids) if pk in found]
            return self._page(request, form, give=request.POST.get("give") != "0", names=names)
        cleaned = form.cleaned_data
        verdicts = role_changes.change_roles(
            cleaned["ids"], cleaned["role"], give=cleaned["give"], acting_user=user, reason=cleaned["reason"]
        )
        self._tell(request, list(verdicts), give=cleaned["give"])
        return HttpResponseRedirect(reverse("admin:accounts_user_changelist"))

    def _tell(self, request: HttpRequest, verdicts: list[role_changes.Verdict], *, give: bool) -> None:
        done = sum(verdict.code == "done" for verdict in verdicts)
        text = ngettext("%(count)d user changed.", "%(count)d users changed.", done)
        self.message_user(request, text % {"count": done}, messages.SUCCESS if done else messages.INFO)
        unchanged = gettext("They have this role already.") if give else gettext("They do not have this role.")
        left_out = [(verdict.user, verdict.words or unchanged) for verdict in verdicts if verdict.code != "done"]
        telling.tell_left_out(request, left_out)
