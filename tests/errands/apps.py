from django.apps import AppConfig


class ErrandsConfig(AppConfig):
    """An app of somebody else's, whose rows belong to people."""

    name = "tests.errands"
    label = "errands"

    def ready(self) -> None:
        import auditlog
        from config import row_security
        from tests.errands.models import Errand, Step

        auditlog.register(Errand, label=["title"])
        row_security.protect(Errand)
        row_security.protect(Step, owner="errand__owner")
