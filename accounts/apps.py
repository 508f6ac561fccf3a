from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import jobs, lockout, receivers
        from config import schedule

        receivers.connect()
        schedule.every_minute(lockout.forget_old)
        schedule.every_minute(jobs.forget_requested_mails)
