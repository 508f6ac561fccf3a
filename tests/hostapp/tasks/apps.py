from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TasksConfig(AppConfig):
    name = "tests.hostapp.tasks"
    label = "tasks"
    verbose_name = _("Tasks")

    def ready(self) -> None:
        import auditlog
        from accounts import exporting, life_cycle, stats
        from config import row_security
        from tests.hostapp.tasks import own_data
        from tests.hostapp.tasks.models import Tag, Task

        auditlog.register(Task, label=["title"], personal=["title", "text"], quiet=["version", "updated_at"])
        auditlog.register(Tag, label=["name"], personal=["name"])
        row_security.protect(Task)
        row_security.protect(Tag)
        exporting.register("tasks", own_data.tasks_of)
        life_cycle.on_erasure(own_data.forget_tasks)
        stats.register("tasks", _("Tasks"), own_data.figures)
