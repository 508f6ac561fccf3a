"""The end of accounts in the admin console: states, actions, and the page that erases one person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import identity, life_cycle, telling
from accounts.asking_admin import AsksFirst, Question
from accounts.errors import AccountError
from accounts.models import User, UserState
from config.templatetags.moments import moment


class StateFilter(admin.SimpleListFilter):
    """Narrows to one state, in words that the partial indexes understand: few may be so among millions."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return UserState.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        states: dict[str | None, dict[str, Any]] = {
            UserState.ACTIVE: {"is_active": True, "erase_at": None, "deleted_at": None},
            UserState.DEACTIVATED: {"is_active": False, "erase_at": None, "deleted_at": None},
            UserState.SCHEDULED: {"erase_at__isnull": False},
            UserState.ERASED: {"deleted_at__isnull": False},
        }
        return queryset.filter(**states.get(self.value(), {}))


class TypedName(forms.Form):
    """Asks for the name of whoever is to be erased, so that no stray click erases anybody."""

    username = forms.CharField(
        label=gettext_lazy("Type the username to confirm"),
        max_length=identity.LONGEST_USERNAME,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        self.user = user
        super().__init__(*args, **kwargs)

    def clean_username(self) -> str:
        typed: str = self.cleaned_data["username"]
        if typed != self.user.username:
            raise ValidationError(_("That is not the username of this person."), code="other_name")
        return typed


def _shown(at: datetime) -> str:
    return date_format(at, "j F Y, H:i e")


class LifeCycleAdmin(AsksFirst):
    """For the admin of users. Nobody is deleted as Django does it: others' records point to people."""

    def has_rights_permission(self, request: HttpRequest) -> bool:
        """For the actions that do what the rights in the form do."""
        return bool(request.user.is_superuser)

    def has_erase_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """The service also asks whether they may edit that person at all."""
        return request.user.has_perm("accounts.erase_user")

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("state"))
    def state(self, user: User) -> str:
        label = str(user.state.label)
        if user.erase_at is None:
            return label
        return format_html("{}: {}", label, moment(user.erase_at, "minute"))

    @admin.display(description=gettext_lazy("erase"), empty_value="")
    def erase_link(self, user: User) -> str | None:
        if user.state == UserState.ERASED:
            return None
        address = reverse("admin:accounts_user_erase", args=[user.pk])
        return format_html('<a href="{}">{}</a>', address, _("Erase this person …"))

    # Actions

    @admin.action(description=gettext_lazy("Shut the selected users out"), permissions=["rights"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self.ask(request, queryset, "deactivate")

    def _deactivate(self, request: HttpRequest, queryset: QuerySet[User], reason: str) -> None:
        act = partial(life_cycle.deactivate, reason=reason)
        done, left_out = self._each(request, queryset, act, unchanged=_("Shut out already."))
        text = ngettext(
            "%(count)d user changed. Shut out, and signed out everywhere: %(names)s.",
            "%(count)d users changed. Shut out, and signed out everywhere: %(names)s.",
            len(done),
        )
        telling.tell_done(request, text, done)
        telling.tell_left_out(request, left_out)

    @admin.action(description=gettext_lazy("Let the selected users in again"), permissions=["rights"])
    def restore(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        done, left_out = self._each(request, queryset, life_cycle.restore, unchanged=_("Not shut out."))
        text = ngettext(
            "%(count)d user changed. Let in again: %(names)s.",
            "%(count)d users changed. Let in again: %(names)s.",
            len(done),
        )
        telling.tell_done(request, text, done)
        telling.tell_left_out(request, left_out)

    @admin.action(description=gettext_lazy("Plan to erase the selected users"), permissions=["erase"])
    def schedule_erasure(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self.ask(request, queryset, "schedule_erasure")

    def _schedule_erasure(self, request: HttpRequest, queryset: QuerySet[User], reason: str) -> None:
        times: list[datetime] = []

        def plan(user: User, *, acting_user: User) -> bool:
            after = life_cycle.grace()
            times.append(life_cycle.schedule_erasure(user, after=after, acting_user=acting_user, reason=reason))
            return True

        done, left_out = self._each(request, queryset, plan)
        text = ngettext(
            "%(count)d user changed. Erased from %(date)s on, unless it is cancelled, and told so by mail: %(names)s.",
            "%(count)d users changed. Erased from %(date)s on, unless it is cancelled, and each told so by mail: "
            "%(names)s.",
            len(done),
        )
        telling.tell_done(request, text, done, date=_shown(max(times)) if times else "")
        telling.tell_left_out(request, left_out)

    @admin.action(description=gettext_lazy("Cancel the erasure of the selected users"), permissions=["erase"])
    def cancel_erasure(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        def cancel(user: User, *, acting_user: User) -> bool:
            life_cycle.cancel_erasure(user, acting_user=acting_user)
            return True

        done, left_out = self._each(request, queryset, cancel)
        text = ngettext(
            "%(count)d user changed. Not erased, and told so by mail: %(names)s.",
            "%(count)d users changed. Not erased, and each told so by mail: %(names)s.",
            len(done),
        )
        telling.tell_done(request, text, done)
        telling.tell_left_out(request, left_out)

    @admin.action(description=gettext_lazy("Erase the selected user now …"), permissions=["erase"])
    def erase(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        chosen = list(queryset[:2])
        if len(chosen) > 1:
            self.message_user(request, _("People are erased one at a time. Please select one."), messages.WARNING)
        elif chosen == [request.user]:
            telling.tell_left_out(request, [(chosen[0], AccountError("own_account"))])
        elif chosen:
            return HttpResponseRedirect(reverse("admin:accounts_user_erase", args=[chosen[0].pk]))
        return None

    def _each(
        self, request: HttpRequest, users: QuerySet[User], act: Callable[..., bool], *, unchanged: str = ""
    ) -> tuple[list[User], list[tuple[User, AccountError | str]]]:
        """Do it to each; returns whom it changed, and who was left out, with the reason."""
        done: list[User] = []
        left_out: list[tuple[User, AccountError | str]] = []
        for user in users:
            try:
                if act(user, acting_user=cast("User", request.user)):
                    done.append(user)
                else:
                    left_out.append((user, unchanged))
            except AccountError as refusal:
                left_out.append((user, refusal))
            except PermissionDenied:
                left_out.append((user, AccountError("person_above_own")))
        return done, left_out

    questions: ClassVar[dict[str, Question]] = {
        "deactivate": Question(
            gettext_lazy("Shut people out"),
            gettext_lazy("They are signed out everywhere, and come in again only when somebody lets them."),
            _deactivate,
        ),
        "schedule_erasure": Question(
            gettext_lazy("Plan to erase people"),
            gettext_lazy(
                "They are signed out everywhere and told by mail; unless it is cancelled, all that is personal is "
                "erased for good when the time is over."
            ),
            _schedule_erasure,
        ),
    }

    # Erasing one

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.erase_view)
        return [path("<path:object_id>/erase/", view, name="accounts_user_erase"), *super().get_urls()]

    def erase_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say what is erased, ask for the name, and leave it to the worker."""
        if not self.has_erase_permission(request):
            raise PermissionDenied
        user: User | None = self.get_object(request, unquote(object_id))
        if user is None or user.state == UserState.ERASED:
            raise Http404
        if user == request.user:
            telling.tell_left_out(request, [(user, AccountError("own_account"))])
            return HttpResponseRedirect(reverse("admin:accounts_user_change", args=[user.pk]))
        form = TypedName(request.POST if request.method == "POST" else None, user=user)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK
        if form.is_bound and form.is_valid():
            acting_user = cast("User", request.user)
            try:
                life_cycle.schedule_erasure(user, after=life_cycle.AT_ONCE, acting_user=acting_user)
            except AccountError as refusal:
                form.add_error(None, refusal.as_validation_error())
                status = HTTPStatus.CONFLICT
            else:
                text = _("“%(user)s” is being erased; the worker does it within minutes.")
                self.message_user(request, text % {"user": user}, messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:accounts_user_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Erase this person for good"),
            "subtitle": None,
            "opts": self.opts,
            "original": user,
            "form": form,
        }
        return TemplateResponse(request, "accounts/erase_user.html", context, status=status)
