from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import audited, receivers, retention
        from accounts import checks as checks  # registers them

        audited.register_models()
        receivers.connect()
        retention.register_rules()
