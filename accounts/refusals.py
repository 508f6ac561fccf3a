"""What the refusal of a constraint means to people, by the constraint's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError

from accounts.errors import AccountError

# constraint of the database -> (code, field) of the refusal
_REFUSALS = {
    "accounts_user_username": ("username_taken", "username"),
    "accounts_user_look_alike": ("username_look_alike", "username"),
    "accounts_user_reserved_username": ("username_retired", "username"),
    # In the words of a name that is taken: nobody need know that somebody was erased.
    "accounts_user_erased_username": ("username_taken", "username"),
    "accounts_user_email": ("email_taken", "email"),
    "accounts_user_reserved_email": ("email_taken", "email"),
    # Only the same form can meet its own key, so its caller looks the key up before it explains.
    "accounts_user_signup_key": ("username_taken", "username"),
    # Only the same attempt can meet its own id: it was committed, and the connection lost before it was told.
    "accounts_user_pkey": ("username_taken", "username"),
    "accounts_user_last_superuser": ("last_superuser", ""),
    "accounts_user_stays_erased": ("account_erased", ""),
}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the refusal of a constraint into AccountError, by the constraint's name.

    Stands outside the transaction or savepoint that it explains, which is rolled back by then.
    """
    try:
        yield
    except IntegrityError as error:
        constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        if constraint not in _REFUSALS:
            raise
        raise AccountError(*_REFUSALS[constraint]) from error
