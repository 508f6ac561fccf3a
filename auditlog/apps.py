from django.apps import AppConfig


class AuditlogConfig(AppConfig):
    name = "auditlog"
    verbose_name = "Audit trail"
    # For whoever hands out rights: the application only reads these tables, the database's own functions write.
    runtime_rights = "SELECT"

    def ready(self) -> None:
        from auditlog import checks, receivers  # noqa: F401 - checks register themselves

        receivers.connect()
