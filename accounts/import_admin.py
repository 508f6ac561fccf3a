"""Imports in the admin console: send a file, read the verdicts, confirm, follow how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import importing, rules
from accounts.errors import AccountError
from accounts.import_verdicts import EXISTS, OK, REFUSED, words_for
from accounts.importing import COLUMNS, Kind, Options, State
from accounts.models import Import, User
from auditlog.exporting import csv_line
from config.admin import LargeTableAdmin

RESULTS = {EXISTS: _("left alone"), REFUSED: _("refused")}
SHOWN = 200  # verdicts on the page, those that refuse first; the report has all


class UploadForm(forms.Form):
    """A file, and what it is of. The service looks at what is in it."""

    kind = forms.ChoiceField(label=_("The file is of"), widget=forms.RadioSelect)
    file = forms.FileField(label=_("CSV file"), allow_empty_file=True, max_length=200)
    update = forms.BooleanField(
        label=_("Change those who exist"),
        required=False,
        help_text=_("For people: full name and roles become what the file says. An empty cell changes nothing."),
    )
    mail = forms.BooleanField(
        label=_("Send new people a link to choose a password"),
        required=False,
        help_text=_("Without it they ask for one themselves, by “Forgot your password?”."),
    )

    def __init__(self, *args: Any, acting_user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.acting_user = acting_user
        kinds = cast("forms.ChoiceField", self.fields["kind"])
        kinds.choices = [choice for choice in Kind.choices if choice[0] in kinds_for(acting_user)]
        kinds.initial = next(iter(kinds_for(acting_user)), None)
        if not rules.may(acting_user, "update_by_import"):
            del self.fields["update"]

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if cleaned.get("kind") == Kind.INVITATIONS and (cleaned.get("update") or cleaned.get("mail")):
            text = _("Both boxes are for people. Invitations are always mailed.")
            self.add_error("kind", forms.ValidationError(text, code="for_people"))
        return cleaned

    def check_file(self) -> Import | None:
        """Return the import that waits for a confirmation; None when the file is refused, which `errors` explains."""
        cleaned, file = self.cleaned_data, self.cleaned_data["file"]
        options = Options(kind=cleaned["kind"], update=cleaned.get("update", False), mail=cleaned["mail"])
        try:
            return importing.check_upload(
                file.read(), file.name, options, most=settings.IMPORT_PAGE_ROWS, acting_user=self.acting_user
            )
        except AccountError as refusal:
            self.add_error("file", refusal.as_validation_error())
        return None


def kinds_for(user: User) -> list[str]:
    """What `user` may import."""
    rights = {Kind.USERS: "import_users", Kind.INVITATIONS: "invite"}
    return [kind for kind, action in rights.items() if rules.may(user, action)]


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


@admin.register(Import)
class ImportAdmin(LargeTableAdmin):
    """Everybody sees their own, superusers all: the verdicts are full of names and addresses."""

    list_display = ["file_name", "kind", "state", "how_far", "started_by_name", "created_at"]
    ordering = ["-id"]
    fields = [
        "file_name", "kind", "state", "stopped_because", "how_far", "told", "update_existing", "send_mail",
        "started_by_name", "created_at", "ended_at",
    ]  # fmt: skip
    change_form_template = "accounts/import_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Import]:
        everything = super().get_queryset(request).defer("content", "verdicts")
        return everything if request.user.is_superuser else everything.filter(started_by=_user(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.view_import") and bool(kinds_for(_user(request)))

    def has_view_permission(self, request: HttpRequest, obj: Import | None = None) -> bool:
        allowed = super().has_view_permission(request, obj)
        return allowed and (obj is None or rules.may(_user(request), "see_import", obj))

    def has_change_permission(self, request: HttpRequest, obj: Import | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Import | None = None) -> bool:
        return False

    @admin.display(description=_("rows done"))
    def how_far(self, begun: Import) -> str:
        return gettext("%(done)d of %(rows)d") % {"done": begun.position, "rows": begun.rows}

    @admin.display(description=_("verdicts"))
    def told(self, begun: Import) -> str:
        if not begun.counts:
            return "–"
        todo = _("to do") if _is_planned(begun) else _("done")
        words = {OK: todo, EXISTS: _("there already"), REFUSED: _("refused")}
        return ", ".join(f"{begun.counts.get(result, 0)} {word}" for result, word in words.items())

    @admin.display(description=_("why it stopped"))
    def stopped_because(self, begun: Import) -> str:
        return str(AccountError(begun.code).message) if begun.code else "–"

    def get_urls(self) -> list[URLPattern]:
        views = {"start": self.start_view, "discard": self.discard_view, "report": self.report_view}
        own = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"accounts_import_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Take a file, look through it, and lead to the verdicts; nothing is written yet."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        bound = (request.POST, request.FILES) if request.method == "POST" else ()
        form = UploadForm(*bound, acting_user=_user(request))
        if form.is_bound and form.is_valid() and (begun := form.check_file()):
            return HttpResponseRedirect(_page_of(begun))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Import people or invitations"),
            "form": form,
            "columns": {kind.label: COLUMNS[kind] for kind in Kind if kind in kinds_for(_user(request))},
            "most": settings.IMPORT_PAGE_ROWS,
        }
        return TemplateResponse(request, "accounts/import_upload.html", context, status=422 if form.is_bound else 200)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        begun = self.get_object(request, object_id)
        more: dict[str, Any] = {}
        if begun is not None and self.has_view_permission(request, begun):
            ordered = sorted(begun.verdicts, key=lambda each: each["result"] != REFUSED)
            more = {
                "verdicts": [_shown(each, planned=_is_planned(begun)) for each in ordered[:SHOWN]],
                "hidden": max(0, len(ordered) - SHOWN),
                "may_start": begun.state == State.CHECKED and rules.may(_user(request), "run_import", begun),
                "is_open": begun.state in (State.QUEUED, State.RUNNING),
                "worth_it": begun.counts.get("ok", 0) > 0,
            }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def start_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have the worker write what was checked."""
        done = gettext("A worker writes it now. Reload this page to see how far it is.")
        return self._decide(request, object_id, importing.start, done)

    def discard_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Throw away what was checked."""
        return self._decide(
            request, object_id, importing.discard, gettext("The file was discarded. Nothing was written.")
        )

    def _decide(self, request: HttpRequest, object_id: str, decision: Callable[..., None], done: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        begun = self._seen(request, object_id)
        try:
            decision(begun.pk, acting_user=_user(request))
        except AccountError as refusal:
            messages.warning(request, refusal.message)
        else:
            messages.success(request, done)
        return HttpResponseRedirect(_page_of(begun))

    def report_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The verdict on every row, for a spreadsheet."""
        begun = self._seen(request, object_id)
        columns = ["line", "who", "result", "code", "words"]
        told = [each | {"words": _words(each, planned=_is_planned(begun))} for each in begun.verdicts]
        lines = [csv_line([each[column] for column in columns]) for each in told]
        response = HttpResponse([csv_line(columns), *lines], content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="import-{begun.pk}.csv"'
        return response

    def _seen(self, request: HttpRequest, object_id: str) -> Import:
        begun: Import = get_object_or_404(self.get_queryset(request), pk=forms.UUIDField().clean(object_id))
        if not self.has_view_permission(request, begun):
            raise PermissionDenied
        return begun


def _is_planned(begun: Import) -> bool:
    """Whether its verdicts are those of the dry run; the first batch that is written moves the position."""
    return begun.position == 0


def _words(each: dict[str, Any], *, planned: bool) -> str:
    return words_for(each["code"], each["words"], planned=planned)


def _shown(each: dict[str, Any], *, planned: bool) -> dict[str, Any]:
    """Return a row of the page's table: what becomes of it, and the reason when that is nothing."""
    words = _words(each, planned=planned)
    if each["result"] == OK:
        return {**each, "outcome": words, "why": ""}
    return {**each, "outcome": RESULTS[each["result"]], "why": words}


def _page_of(begun: Import) -> str:
    return reverse("admin:accounts_import_change", args=[begun.pk])
