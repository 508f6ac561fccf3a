"""The admin site, and the base of every model admin of ours: fast on large tables, calm on odd input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, cast

import structlog
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR, IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db import DataError
from django.db.models import DateTimeField, Model
from django.forms import Media
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache

from auditlog.history import ObjectHistory
from config import errors, row_security
from config.dashboard import dashboard
from config.paging import CappedPaginator
from config.templatetags.moments import moment

log = structlog.get_logger("gatehouse.admin")

# What a forged filter, id or form field makes Django or PostgreSQL raise.
_ODD_INPUT = (
    IncorrectLookupParameters,
    SuspiciousOperation,
    ValidationError,
    DataError,
    ValueError,
    TypeError,
    OverflowError,
    IndexError,  # a range of one end has fewer values than its statement has places
)


class GatehouseAdminSite(admin.AdminSite):
    """The admin, on which no address and no form is a 500, and every list is a `LargeTableAdmin`."""

    site_title = gettext_lazy("Gatehouse")
    site_header = gettext_lazy("Gatehouse")
    index_title = gettext_lazy("Console")
    login_view: type[LoginView] = LoginView

    # Asked before each page; what it returns is the answer in place of the page. Apps may put theirs here.
    guard: Callable[[HttpRequest], HttpResponseBase | None] = staticmethod(lambda request: None)

    def index(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        """The list of apps, below what happened lately."""
        return super().index(request, {**dashboard(request), **(extra_context or {})})

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        admin_class = admin_class or admin.ModelAdmin
        if not issubclass(admin_class, LargeTableAdmin):
            admin_class = type(admin_class.__name__, (LargeTableAdmin, admin_class), {})
        super().register(model_or_iterable, admin_class, **options)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        @wraps(view)
        def calm_view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if answer := self.guard(request):
                return answer
            row_security.show_everybody(request)
            try:
                response: HttpResponseBase = view(request, *args, **kwargs)
                if isinstance(response, SimpleTemplateResponse):
                    response.render()  # a list is lazy: a bad value in a filter only meets the database here
                return response
            except _ODD_INPUT:
                log.warning("admin.odd_input", exc_info=True)
                if not request.GET:
                    return errors.bad_request(request)
                messages.warning(request, _("That filter could not be understood, so the whole list is shown."))
                return HttpResponseRedirect(request.path)

        # Nothing here is cacheable, and a stranger must not tell by that header which addresses exist.
        return super().admin_view(calm_view, cacheable=False)

    @method_decorator(never_cache)
    @login_not_required
    def login(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """As Django's own, with `login_view` in place of a view that takes a password for enough."""
        if request.method == "GET" and self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        context = {
            **self.each_context(request),
            "title": _("Log in"),
            "subtitle": None,
            "app_path": request.get_full_path(),
            "username": request.user.get_username(),
        }
        if not any(REDIRECT_FIELD_NAME in given for given in (request.GET, request.POST)):
            context[REDIRECT_FIELD_NAME] = reverse("admin:index")
        request.current_app = self.name
        view = self.login_view.as_view(template_name="admin/login.html", extra_context=context | (extra_context or {}))
        return view(request)

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """One page changes passwords, by one service; the admin's own would go past it."""
        return HttpResponseRedirect(reverse("password_change"))


class _Moment:
    """A column or read-only field that shows a date and time of the model as every page does."""

    def __init__(self, field: DateTimeField[Any, Any]) -> None:
        self.__name__ = self.admin_order_field = field.name
        self.short_description = field.verbose_name

    def __call__(self, row: Model) -> str:
        return moment(getattr(row, self.__name__))


@cache
def _moments(model: type[Model]) -> dict[str, _Moment]:
    return {field.name: _Moment(field) for field in model._meta.fields if isinstance(field, DateTimeField)}


def _put(moments: dict[str, _Moment], names: Sequence[Any]) -> list[Any]:
    """Return `names` of columns or fields, each replaced that `moments` has; several may stand on one line."""
    return [_put(moments, name) if isinstance(name, list | tuple) else moments.get(name, name) for name in names]


class LargeTableChangeList(ChangeList):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except IncorrectLookupParameters as fault:  # at which Django would show the whole list without a word
            raise SuspiciousOperation from fault
        for spec in self.filter_specs:
            self._require_choice(spec)
        # Only now: until the order of the rows is settled, columns go by their names.
        moments = _moments(self.model)
        self.list_display = _put(moments, self.list_display)
        self.list_display_links = self.list_display_links and _put(moments, self.list_display_links)
        self.sortable_by = self.sortable_by and _put(moments, self.sortable_by)

    def _require_choice(self, spec: Any) -> None:
        # Of times any range will do, whichever are offered.
        is_asked = spec.used_parameters and not isinstance(spec, admin.DateFieldListFilter)
        if is_asked and not any(choice["selected"] for choice in spec.choices(self)):
            raise SuspiciousOperation(f"{spec.title}: no such choice")

    def get_ordering_field(self, field_name: Callable[..., Any] | str) -> Any:
        """Sort by the columns in `sortable_by` only, also when the address asks for another one."""
        return super().get_ordering_field(field_name) if field_name in (self.sortable_by or ()) else None


# What every list and form of Django's admin gets, and of it what no jQuery is needed for.
_NEEDED_EVERYWHERE = ["admin/js/core.js", "admin/js/actions.js"]


def _whole_media() -> Media:
    return cast("Media", cast("property", admin.ModelAdmin.media).fget(None))  # type: ignore[misc]  # it asks no admin


def _scripts_of_django() -> list[Any]:
    (scripts,) = _lists_of(_whole_media())
    return scripts


def _lists_of(media: Media) -> list[list[Any]]:
    """Return the scripts as each class named them; Django tells no other way."""
    return [list(scripts) for scripts in media._js_lists]  # type: ignore[attr-defined]  # noqa: SLF001


class LargeTableAdmin(ObjectHistory, admin.ModelAdmin[Any]):
    """A model admin without full counts, with bounded pages, and with filters on what it offers only.

    Dates and times of the model are shown by `moment` in lists and where they are not edited. Its history page is the
    audit trail's.

    `sortable_by` names the columns that an index can sort.
    """

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    sortable_by = ()

    @property
    def media(self) -> Media:
        """Without jQuery and Django's scripts that need it, unless the admin's own scripts name one of them."""
        theirs, whole = _scripts_of_django(), super().media
        own = [scripts for scripts in _lists_of(whole) if scripts != theirs]
        if any(script in theirs for scripts in own for script in scripts):
            return whole
        return sum((Media(js=scripts) for scripts in own), whole["css"] + Media(js=_NEEDED_EVERYWHERE))

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """As Django's, without links that add or edit the related row in another window."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field and isinstance(widget := field.widget, RelatedFieldWidgetWrapper):
            widget.can_add_related = widget.can_change_related = False
            widget.can_delete_related = widget.can_view_related = False
        return field

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LargeTableChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        # A list in a window fills in the field of another.
        chosen = {"media": self.media + _whole_media()} if IS_POPUP_VAR in request.GET else {}
        return super().changelist_view(request, {**chosen, **(extra_context or {})})

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        shown, model = context["adminform"], cast("type[Model]", self.model)
        # Fields that open windows or follow others, and rows of other models, whatever they hold.
        if self.raw_id_fields or shown.prepopulated_fields or context["inline_admin_formsets"]:
            context["media"] += _whole_media()
        # What is edited stays a field of the form.
        moments = {name: each for name, each in _moments(model).items() if name in shown.readonly_fields}
        shown.readonly_fields = _put(moments, shown.readonly_fields)
        shown.fieldsets = [(name, {**told, "fields": _put(moments, told["fields"])}) for name, told in shown.fieldsets]
        return super().render_change_form(request, context, *args, **kwargs)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Filter by what `list_filter` offers only: any other is a question, letter by letter, about a secret."""
        # A filter of our own bears a parameter instead of a field.
        offered = {item if isinstance(item, str) else getattr(item, "parameter_name", "") for item in self.list_filter}
        return lookup.split("__")[0] in offered
