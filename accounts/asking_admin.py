"""The console's page between an action on several people and its doing: whom it is about, and why it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _

from accounts import identity
from accounts.models import User

MOST = 1000  # people that one page is about; for some of it a command takes any number
NAMED = 20  # of them on the page
_TOO_MANY = _("At most %(most)d people at a time. Please narrow the list.")


class AboutPeople(forms.Form):
    """Whom it is about, and why."""

    ids = forms.CharField(max_length=40 * MOST, widget=forms.HiddenInput)
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=200,
        validators=[identity.validate_one_line],
        help_text=_("Optional. It is kept in the audit trail."),
    )

    def clean_ids(self) -> list[UUID]:
        field = forms.UUIDField()
        ids = [cast("UUID", field.clean(text)) for text in self.cleaned_data["ids"].split(",")]
        if len(ids) > MOST:
            raise ValidationError(_("Too many people."), code="too_many")
        return ids


class ActionForm(AboutPeople):
    """Which action of the list is confirmed, for whom, and why."""

    action = forms.CharField(max_length=40, widget=forms.HiddenInput)


@dataclass(frozen=True)
class Question:
    """What is asked before an action, what it warns of, and what does it: ``act(admin, request, people, reason)``."""

    title: Any
    warning: Any
    act: Callable[[Any, HttpRequest, QuerySet[User], str], None]


class AsksFirst(admin.ModelAdmin[User]):
    """Adds to a user admin the page that asks, and what does the actions that have a `Question` by their name."""

    questions: ClassVar[dict[str, Question]] = {}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.confirm_view)
        return [path("confirm/", view, name="accounts_user_confirm"), *super().get_urls()]

    def ask(self, request: HttpRequest, queryset: QuerySet[User], action: str) -> HttpResponse | None:
        """Return the page of the action's question; None when there is nobody to ask about."""
        if not (people := self.chosen(request, queryset)):
            return None
        return self._asked(request, ActionForm(initial={"ids": ids_of(people), "action": action}), people, action)

    def _asked(self, request: HttpRequest, form: ActionForm, people: list[User], action: str) -> HttpResponse:
        question, place = self.questions[action], reverse("admin:accounts_user_confirm")
        return self.question(request, form, people, title=question.title, warning=question.warning, action=place)

    def confirm_view(self, request: HttpRequest) -> HttpResponse:
        """Do what was confirmed."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        action = request.POST.get("action", "")
        if action not in self.questions or action not in self.get_actions(request):
            raise PermissionDenied
        form = ActionForm(request.POST)
        if not form.is_valid():
            return self._asked(request, form, self.named(request, form), action)
        people = self.get_queryset(request).filter(pk__in=form.cleaned_data["ids"]).order_by("-pk")
        self.questions[action].act(self, request, people, form.cleaned_data["reason"])
        return HttpResponseRedirect(reverse("admin:accounts_user_changelist"))

    def chosen(self, request: HttpRequest, queryset: QuerySet[User], too_many: Any = _TOO_MANY) -> list[User]:
        """Return whom a page is to be about, with ids and names; nobody when they are too many, which it says."""
        people = list(queryset.only("pk", "username")[: MOST + 1])
        if len(people) <= MOST:
            return people
        self.message_user(request, too_many % {"most": MOST}, messages.ERROR)
        return []

    def named(self, request: HttpRequest, form: AboutPeople) -> list[User]:
        """Return whom a form that was refused is about, in its order."""
        ids = form.cleaned_data.get("ids", [])
        found = {user.pk: user for user in self.get_queryset(request).only("pk", "username").filter(pk__in=ids)}
        return [found[pk] for pk in dict.fromkeys(ids) if pk in found]

    def question(self, request: HttpRequest, form: AboutPeople, people: list[User], **more: Any) -> HttpResponse:
        """Return the page; `more` has its title, its action (an address), and what it warns of."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "form": form,
            "count": len(people),
            "names": [user.username for user in people[:NAMED]],
            "unnamed": max(0, len(people) - NAMED),
            **more,
        }
        return TemplateResponse(request, "accounts/about_people.html", context, status=422 if form.is_bound else 200)


def ids_of(people: Iterable[User]) -> str:
    return ",".join(str(user.pk) for user in people)
