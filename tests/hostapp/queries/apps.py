from __future__ import annotations

from datetime import timedelta

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class QueriesConfig(AppConfig):
    name = "tests.hostapp.queries"
    label = "queries"
    verbose_name = _("Queries")

    def ready(self) -> None:
        import auditlog
        from accounts import exporting, life_cycle
        from config import database_views, retention, row_security, schedule
        from tests.hostapp.queries import services
        from tests.hostapp.queries.models import PopularQuery, Query

        auditlog.register(Query, label=["kind"], personal=["text"])
        row_security.protect(Query)
        retention.register_rows(
            "queries",
            _("queries"),
            kept_for=lambda: timedelta(days=services.KEPT_DAYS),
            older_than=Query.objects.older_than,
        )
        schedule.every_minute(
            database_views.keep_fresh(PopularQuery._meta.db_table, every=timedelta(minutes=services.COUNTED_EVERY))
        )
        exporting.register("queries", services.facts_about)
        life_cycle.on_erasure(services.forget)
