"""The backend class that Django loads for ``ENGINE = "config.database"``."""

from __future__ import annotations

from typing import Any

import psycopg2
from django.conf import settings
from django.db.backends.postgresql import base
from django.dispatch import Signal
from django.utils.asyncio import async_unsafe

from config.database import branches, deadline, embedded

deadline.install()
_NO_BRANCH = "There is no branch %r any more; `manage.py database branch --switch main` goes back to the first."
connection_failed = Signal()  # an attempt to connect; Django tells of those that succeed


class DatabaseWrapper(base.DatabaseWrapper):
    """Starts the embedded server on first use; everything else is Django's."""

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        if params.pop("embedded", False):
            params["host"] = embedded.socket_directory()
        return params

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        try:
            return self._connect(conn_params)
        except Exception:
            connection_failed.send(type(self))
            raise

    def _connect(self, conn_params: dict[str, Any]) -> Any:
        with deadline.greeting():
            if self.settings_dict["OPTIONS"].get("embedded"):
                # Only a new connection looks at the server: a running one costs a few milliseconds here.
                with deadline.charged():
                    embedded.ensure_running(deadline.remaining_seconds())
                conn_params["host"] = embedded.socket_directory()
            try:
                return super().get_new_connection(conn_params)
            except psycopg2.OperationalError as error:
                is_embedded, branch = self.settings_dict["OPTIONS"].get("embedded"), settings.DATABASE_BRANCH
                if is_embedded and branch != branches.MAIN and "does not exist" in str(error):
                    raise psycopg2.OperationalError(_NO_BRANCH % branch) from error
                raise

    @async_unsafe
    def chunked_cursor(self) -> Any:
        """As Django's, but what goes wrong when it is closed is told in Django's errors too: that asks the server."""
        cursor: Any = super().chunked_cursor()
        cursor.close = self.wrap_database_errors(cursor.close)
        return cursor

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        """As Django's, but at the end of a transaction whose connection is gone there is nothing to set.

        Django would connect again there, for whose end a frozen server lets it wait, or raise that the connection is
        closed: in both cases in place of the Ctrl-C or the end of the process that ended the transaction.
        """
        if autocommit and (self.connection is None or self.connection.closed):
            self.close()
            self.autocommit = True
            return
        super().set_autocommit(autocommit, *args, **kwargs)

    def is_usable(self) -> bool:
        with deadline.greeting():
            return bool(super().is_usable())
