from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import audited, daily, receivers, retention, stats
        from config import schedule

        audited.register_models()
        receivers.connect()
        retention.register_rules()
        stats.register_sections()
        schedule.every_minute(daily.keep_signups_counted)
