from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import audited, jobs, lockout, receivers
        from config import schedule

        audited.register_models()
        receivers.connect()
        schedule.every_minute(lockout.forget_old)
        schedule.every_minute(jobs.forget_requested_mails)
