"""The admin's way to give a role to many people at once, or to take it: an action, a confirmation, verdicts."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import role_changes, roles, telling
from accounts.asking_admin import AboutPeople, AsksFirst, ids_of
from accounts.models import User


class RoleChangeForm(AboutPeople):
    """Which role, for whom, and why."""

    give = forms.TypedChoiceField(
        choices=[("1", ""), ("0", "")], coerce=lambda text: text == "1", widget=forms.HiddenInput
    )
    role = forms.ModelChoiceField(label=_("Role"), queryset=Group.objects.none())
    field_order = ["ids", "give", "role", "reason"]

    def __init__(self, *args: Any, acting_user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast("forms.ModelChoiceField[Group]", self.fields["role"]).queryset = roles.grantable(acting_user)


class ChangesRoles(AsksFirst):
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
        too_many = _("At most %(most)d people at a time. Narrow the list, or use the command “manage.py roles”.")
        if not (people := self.chosen(request, queryset, too_many)):
            return None
        initial = {"ids": ids_of(people), "give": "1" if give else "0"}
        form = RoleChangeForm(initial=initial, acting_user=cast("User", request.user))
        return self._page(request, form, people, give=give)

    def _page(self, request: HttpRequest, form: RoleChangeForm, people: list[User], *, give: bool) -> HttpResponse:
        return self.question(
            request,
            form,
            people,
            title=_("Give a role") if give else _("Take a role"),
            action=reverse("admin:accounts_user_roles"),
            warning=_(
                "Whoever you may not change stays as they are, and you are told who. Nobody changes their own roles."
            ),
        )

    def roles_view(self, request: HttpRequest) -> HttpResponse:
        """Do what was confirmed, and say what became of each."""
        if not self.has_roles_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        user = cast("User", request.user)
        form = RoleChangeForm(request.POST, acting_user=user)
        if not form.is_valid():
            return self._page(request, form, self.named(request, form), give=request.POST.get("give") != "0")
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
