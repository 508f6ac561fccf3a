"""The pages of one's own sessions, and the one that asks for the password again."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe
from django.views.generic import FormView

from accounts import reauthentication, sessions
from accounts.forms import ConfirmForm
from accounts.models import User
from accounts.session_engine import store
from accounts.views import RefusedWith422, SeeOther
from config.middleware import is_own_path


@never_cache
@login_required
@require_safe
def session_list(request: HttpRequest) -> HttpResponse:
    """Where the person is signed in; nobody sees another's here."""
    user, this = cast("User", request.user), store(request).row
    found = sessions.of(user)
    # The one that asks stands above all others, also when it is not among the latest.
    others = [row for row in found if this is None or row.pk != this.pk]
    context = {"this": this, "others": others, "is_cut": len(found) >= sessions.MOST_SHOWN}
    return render(request, "accounts/session_list.html", context)


@login_required
@require_POST
def end_session(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Sign one device out; it was signed out already, or is another's: the same answer."""
    user, this = cast("User", request.user), store(request).row
    if this is not None and this.pk == session_id:
        logout(request)
        return SeeOther(reverse("login"))
    if sessions.end(user, session_id):
        messages.success(request, _("That device is signed out."))
    else:
        messages.info(request, _("That device was signed out already."))
    return SeeOther(reverse("session_list"))


@login_required
@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    count = sessions.end_all(cast("User", request.user), but=request.session.session_key or "")
    if count:
        text = ngettext("%(count)d other device is signed out.", "%(count)d other devices are signed out.", count)
        messages.success(request, text % {"count": count})
    else:
        messages.info(request, _("You were not signed in anywhere else."))
    return SeeOther(reverse("session_list"))


@method_decorator([never_cache, sensitive_post_parameters("password")], name="dispatch")
class Confirm(RefusedWith422, LoginRequiredMixin, FormView[ConfirmForm]):
    http_method_names = ["get", "head", "post"]
    form_class = ConfirmForm
    template_name = "accounts/confirm.html"

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: ConfirmForm) -> HttpResponse:
        reauthentication.confirm(self.request)
        return SeeOther(self._place() or reverse("profile"))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "next": self._place()}

    def _place(self) -> str:
        """Where to go on: a path of this site that is not this page, or ""."""
        given = self.request.POST.get("next") or self.request.GET.get("next") or ""
        return given if is_own_path(given) and not given.startswith(self.request.path) else ""
