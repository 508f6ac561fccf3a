"""Messages to the reader, in a signed cookie that no sibling host can plant."""

from __future__ import annotations

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage


class PrefixedCookieStorage(CookieStorage):
    cookie_name = settings.MESSAGE_COOKIE_NAME
