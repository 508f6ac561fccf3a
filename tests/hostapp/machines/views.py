from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from config.paging import page_of
from tests.hostapp.machines import services
from tests.hostapp.machines.models import Bill, Credit, Machine, Spending


@login_required
@require_safe
def machine_list(request: HttpRequest) -> HttpResponse:
    context = {
        "machines": Machine.objects.of(request.user).order_by("name")[:100],
        "credit": Credit.objects.of(request.user).first(),
        "spending": Spending.objects.filter(owner=cast("User", request.user)).order_by("-month")[:12],
        "page": page_of(Bill.objects.of(request.user).select_related("machine"), request.GET, by="at"),
    }
    return render(request, "machines/machine_list.html", context)


@login_required
@require_POST
def move(request: HttpRequest, machine_id: int) -> HttpResponse:
    machine = get_object_or_404(Machine.objects.of(request.user), pk=machine_id)
    try:
        services.move(cast("User", request.user), machine.pk, request.POST.get("to", ""))
    except ValidationError as refusal:
        messages.error(request, " ".join(refusal.messages))
    return redirect("machines:list")
