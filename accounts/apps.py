from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"
    not_backed_up = ("accounts_session",)  # nobody is signed in after a restore

    def ready(self) -> None:
        from accounts import audited, daily, own_data, receivers, retention, stats
        from accounts import checks as checks  # registers them
        from config import schedule

        audited.register_models()
        receivers.connect()
        retention.register_rules()
        stats.register_sections()
        schedule.every_minute(daily.keep_signups_counted)
        own_data.register_parts()
