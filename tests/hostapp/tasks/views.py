from __future__ import annotations

import re
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from config.paging import page_of
from tests.hostapp.tasks import services
from tests.hostapp.tasks.forms import TaskForm
from tests.hostapp.tasks.models import Task, TaskSummary

MOST_AT_ONCE = 1000
ACTIONS: dict[str, Callable[[User, Collection[int]], int]] = {
    "complete": services.complete_tasks,
    "reopen": services.reopen_tasks,
    "delete": services.delete_tasks,
    "restore": services.restore_tasks,
}


@login_required
@require_safe
def task_list(request: HttpRequest) -> HttpResponse:
    owner = cast("User", request.user)
    tasks = Task.objects.of(owner).prefetch_related("tags")
    context = {
        "page": page_of(tasks, request.GET, by="created_at"),
        "summary": TaskSummary.objects.filter(owner=owner).first(),
    }
    return render(request, "tasks/task_list.html", context)


@login_required
def add_task(request: HttpRequest) -> HttpResponse:
    return _edit(request, Task(owner=cast("User", request.user)))


@login_required
def edit_task(request: HttpRequest, task_id: int) -> HttpResponse:
    return _edit(request, get_object_or_404(Task.objects.of(request.user), pk=task_id))


def _edit(request: HttpRequest, task: Task) -> HttpResponse:
    form = TaskForm(request.POST or None, instance=task)
    if form.is_valid():
        if form.write():
            return redirect("tasks:list")
        return render(request, "tasks/task_form.html", {"form": form}, status=HTTPStatus.CONFLICT)
    return render(request, "tasks/task_form.html", {"form": form})


@login_required
@require_POST
def change_tasks(request: HttpRequest) -> HttpResponse:
    """Do one thing to all tasks that are ticked; those of others are as good as not there."""
    ids = {int(one) for one in request.POST.getlist("task")[:MOST_AT_ONCE] if re.fullmatch("[0-9]{1,18}", one)}
    if action := ACTIONS.get(request.POST.get("action", "")):
        count = action(cast("User", request.user), ids)
        messages.success(request, ngettext("%d task was changed.", "%d tasks were changed.", count) % count)
    return redirect("tasks:list")
