from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class HealthcheckConfig(AppConfig):
    name = "healthcheck"
    verbose_name = _("Health")

    def ready(self) -> None:
        from healthcheck import checks, operations
        from healthcheck.metrics import statements
        from healthcheck.operations import Operation, migrating, optimizing

        statements.connect()
        checks.register_all()
        operations.register(
            Operation(
                name="optimize",
                label=_("Optimize the database"),
                permission="healthcheck.run_optimize",
                run=optimizing.optimize,
            )
        )
        operations.register(
            Operation(
                name="migrations",
                label=_("Apply migrations"),
                permission="healthcheck.run_migrations",
                accept=migrating.accept,
                run=migrating.migrate,
            )
        )
