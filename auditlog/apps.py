from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AuditlogConfig(AppConfig):
    name = "auditlog"
    verbose_name = _("Audit trail")
    # For whoever hands out rights: the application only reads these tables, the database's own functions write.
    runtime_rights = "SELECT"

    def ready(self) -> None:
        from auditlog import checks, receivers  # noqa: F401 - checks register themselves

        receivers.connect()
