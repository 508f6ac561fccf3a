from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import audited, own_data, receivers, retention

        audited.register_models()
        receivers.connect()
        retention.register_rules()
        own_data.register_parts()
