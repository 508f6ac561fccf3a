from django.apps import AppConfig


class HostappConfig(AppConfig):
    """An app of somebody else's, as small as it can be: it joins by the public interfaces only."""

    name = "tests.hostapp"
    label = "hostapp"

    def ready(self) -> None:
        import auditlog
        from tests.hostapp import models

        auditlog.register(models.Tag, label=["name"])
        auditlog.register(models.Thing, label=["name"], clear=["key"])
        auditlog.register(models.Machine, label=["name"])
        auditlog.register(models.Part, label=["name"])
        auditlog.register(
            models.Secretive, label=["name"], masked=["code"], excluded=["hidden"], personal=["phone"], quiet=["seen"]
        )
        auditlog.register(models.Vehicle, label=["name"])
        auditlog.register(models.Truck)
        auditlog.register(models.Everything)
        auditlog.register(models.Word, label=["code"])
