from django.apps import AppConfig


class HealthcheckConfig(AppConfig):
    name = "healthcheck"

    def ready(self) -> None:
        from healthcheck import statements

        statements.connect()
