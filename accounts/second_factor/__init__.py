"""What a person shows beside the password: codes of an app, passkeys, recovery codes (``docs/accounts.md``)."""
