"""What people see and get of what is kept about them: sign-ins, and all of it as a file."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import signins
from accounts.models import User


@never_cache
@login_required
@require_safe
def own_sign_ins(request: HttpRequest) -> HttpResponse:
    page, lines = signins.page_of(cast("User", request.user), request.GET)
    return render(request, "accounts/sign_ins.html", {"page": page, "sign_ins": lines})
