"""The project's own app (commands, error pages, site assets) and its admin site."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class GatehouseConfig(AppConfig):
    name = "config"
    verbose_name = "Gatehouse"

    def ready(self) -> None:
        from auditlog import delivering
        from config import checks as checks  # registers them
        from config import schedule

        schedule.every_turn(delivering.deliver)


class GatehouseAdminConfig(AdminConfig):
    default_site = "config.admin.GatehouseAdminSite"
