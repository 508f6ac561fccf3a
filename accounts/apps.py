from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import audited, daily, receivers, retention
        from config import schedule

        audited.register_models()
        receivers.connect()
        retention.register_rules()
        schedule.every_minute(daily.keep_signups_counted)
