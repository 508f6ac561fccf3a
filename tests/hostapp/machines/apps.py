from __future__ import annotations

from datetime import timedelta

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MachinesConfig(AppConfig):
    name = "tests.hostapp.machines"
    label = "machines"
    verbose_name = _("Machines")

    def ready(self) -> None:
        import auditlog
        from accounts import exporting, life_cycle, stats
        from config import retention, row_security
        from healthcheck import advice, registry
        from healthcheck.advice import Advice
        from healthcheck.metrics import figures
        from healthcheck.metrics.figures import Family
        from healthcheck.registry import Check
        from tests.hostapp.machines import own_data, watching
        from tests.hostapp.machines.models import Bill, Credit, Machine, Metric

        auditlog.register(Machine, label=["name"], personal=["name"], quiet=["version", "updated_at"])
        auditlog.register(Bill, label=["key"], clear=["key"])
        auditlog.register(Credit)
        # Metrics are not: a machine sends one a minute, nobody ever edits one, and none says what a person did.
        row_security.protect(Machine)
        row_security.protect(Metric, owner="machine__owner")
        row_security.protect(Bill)
        row_security.protect(Credit)
        retention.register_rows(
            "machine_metrics",
            _("metrics of machines"),
            kept_for=lambda: timedelta(days=watching.METRICS_KEPT_DAYS),
            older_than=watching.metrics_before,
        )
        exporting.register("machines", own_data.facts_about)
        life_cycle.on_erasure(own_data.forget)
        stats.register("machines", _("Machines"), watching.figures)
        registry.register(Check(name="machines", label=_("Machines"), run=watching.look_at_machines))
        advice.tell(
            "machines",
            "machines_failed",
            Advice(_("Machines have failed and nobody has stopped them."), _("Stop them, and start them again.")),
        )
        figures.register(Family(name="machine_transitions", help="Machines that changed their state.", kind="counter"))
