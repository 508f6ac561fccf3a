"""Who has to have a second factor, from when on, and what they may do without one.

`SECOND_FACTOR_REQUIRED_FOR` names roles, and ``staff``. From the first request at which that is true of somebody,
they have `SECOND_FACTOR_GRACE_DAYS` to set one up, with a hint on every page; afterwards every page leads to the
set-up. Nobody gets a second time of grace, so that removing the last factor is no way to get one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone

import auditlog
from accounts.models import User
from accounts.second_factor import factors
from accounts.second_factor.models import Demand
from accounts.views import SeeOther

STAFF = "staff"
# Where somebody may go who should have set up a second factor: to do so, and out.
OPEN_PAGES = {
    "confirm",
    "second_factor",
    "second_factor_begin_app",
    "second_factor_confirm_app",
    "second_factor_passkey",
    "second_factor_passkey_question",
}
EXITS = {"logout", "admin:logout"}
Handler = Callable[[HttpRequest], HttpResponseBase]


def due(user: User) -> datetime | None:
    """Return when `user` has to have a second factor that they lack, or None when nothing is asked of them.

    The first call for somebody of whom it is asked notes the beginning of their grace.
    """
    if not settings.SECOND_FACTOR_REQUIRED_FOR:
        return None
    lacking = User.objects.filter(_is_required(), ~factors.has(), pk=user.pk)
    if not lacking.exists():
        return None
    return _since(user) + timedelta(days=settings.SECOND_FACTOR_GRACE_DAYS)


def _is_required() -> Q:
    """Return the condition that a user has to have a second factor."""
    names = settings.SECOND_FACTOR_REQUIRED_FOR
    required = Q(groups__name__in=names)
    return required | Q(is_staff=True) if STAFF in names else required


@auditlog.acting_as(reason="second factor demanded")
def _since(user: User) -> datetime:
    demand = Demand.objects.filter(user=user).first()
    if demand is None:
        with transaction.atomic():
            Demand.objects.bulk_create([Demand(user=user)], ignore_conflicts=True)  # several requests at once
        demand = Demand.objects.get(user=user)
    return demand.since


class SecondFactorMiddleware:
    """Give every page of somebody who lacks a second factor a hint, and after the grace lead it to the set-up.

    Looks at views, not at addresses: what is answered before (files, probes of health) never comes here.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *_arguments: Any) -> HttpResponse | None:
        if not settings.SECOND_FACTOR_REQUIRED_FOR or _is_let_alone(request, view):
            return None
        if not request.user.is_authenticated:
            return None
        last_moment = due(request.user)
        if last_moment is None:
            return None
        is_over = last_moment <= timezone.now()
        request.second_factor_due = {"at": last_moment, "is_over": is_over}  # type: ignore[attr-defined]  # for layouts
        match = request.resolver_match
        if not is_over or (match is not None and match.view_name in OPEN_PAGES):
            return None
        return SeeOther(reverse("second_factor"))


def _is_let_alone(request: HttpRequest, view: Any) -> bool:
    """Whether nobody is looked up: on the way out, and for what a script asks at every keystroke."""
    match = request.resolver_match
    leaves = match is not None and match.view_name in EXITS
    return leaves or (request.method == "POST" and getattr(view, "is_unlogged", False))
