from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("Accounts")
    not_backed_up = ("accounts_session",)  # nobody is signed in after a restore

    def ready(self) -> None:
        from django.contrib.auth.models import Group, Permission

        from accounts import audited, daily, own_data, receivers, retention, stats
        from accounts import checks as checks  # registers them
        from accounts.models import AddressChange, FormerPassword, LoginAttempt, Session
        from accounts.second_factor.models import AuthenticatorApp, Demand, Passkey, RecoveryCodes, RecoveryLink
        from config import schedule
        from config.database import routing

        audited.register_models()
        receivers.connect()
        retention.register_rules()
        stats.register_sections()
        schedule.every_minute(daily.keep_signups_counted)
        own_data.register_parts()
        routing.read_from_primary(
            Group, Permission, Session, LoginAttempt, AddressChange, FormerPassword,
            AuthenticatorApp, Passkey, RecoveryCodes, RecoveryLink, Demand,
        )  # fmt: skip
