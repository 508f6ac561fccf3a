"""The project's own app (commands, error pages, site assets) and its admin site."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _
from django_tasks_db.apps import TasksAppConfig


class GatehouseConfig(AppConfig):
    name = "config"
    verbose_name = "Gatehouse"

    def ready(self) -> None:
        from auditlog import care, delivering, describing
        from config import checks as checks  # registers them
        from config import deploying as deploying  # as well
        from config import figures, health, lifeline, operating, policies, retained, retention, schedule
        from healthcheck import signals

        health.register_all()
        schedule.every_turn(delivering.deliver)
        schedule.every_minute(care.tend)
        schedule.every_minute(retention.keep_rules)
        retained.register_rules()
        figures.connect()
        operating.join()
        post_migrate.connect(policies.follow_migrations, sender=self, dispatch_uid="config.policies")
        signals.serving.connect(lambda **_: lifeline.hold(), weak=False, dispatch_uid="lifeline")
        describing.name_actions(
            {"configure": _("changed the settings"), "restore_backup": _("restored a backup of the database")}
        )


class GatehouseAdminConfig(AdminConfig):
    default_site = "config.admin.GatehouseAdminSite"


class JobsConfig(TasksAppConfig):
    """The jobs' own app, under a name for people."""

    verbose_name = _("Background jobs")  # type: ignore[assignment]  # as Django takes it
