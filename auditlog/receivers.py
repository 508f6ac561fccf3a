"""Every signal that the trail listens to, on one screen. None of them writes a row's values: the triggers do."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.signals import got_request_exception
from django.db import router
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate, post_save, pre_migrate, pre_save

from auditlog import announcing, channel, context, events, installing, lines, registry
from auditlog.signals import failed, recorded, writing, written


def connect() -> None:
    connection_created.connect(_connected, dispatch_uid="auditlog.connected")
    pre_save.connect(_saving, dispatch_uid="auditlog.saving")
    post_save.connect(_saved, dispatch_uid="auditlog.saved")
    failed.connect(_save_failed, dispatch_uid="auditlog.save_failed")
    # Not pre_delete and m2m_changed: with a receiver Django reads every row before it deletes or relates it.
    writing.connect(_writing, dispatch_uid="auditlog.writing")
    written.connect(_written, dispatch_uid="auditlog.written")
    announcing.start()
    user_logged_in.connect(_logged_in, dispatch_uid="auditlog.logged_in")
    user_logged_out.connect(_logged_out, dispatch_uid="auditlog.logged_out")
    # Not user_login_failed: only who counts the tries knows whether one was made, and for whose account.
    got_request_exception.connect(_request_failed, dispatch_uid="auditlog.request_failed")
    recorded.connect(_recorded, dispatch_uid="auditlog.recorded")
    pre_migrate.connect(_migrating, sender=installing.first_app(), dispatch_uid="auditlog.migrating")
    _hear_last_of_migrations()


# The writes of the application


def _connected(sender: Any, connection: Any, **kwargs: Any) -> None:
    if connection.vendor == "postgresql":
        # Where its tables are not made, as on a replica, nothing could be recorded.
        channel.open_channel(connection, is_recorded=router.allow_migrate(connection.alias, "auditlog"))


def _saving(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    channel.of(using).announce("save", instance, registry.tables_of(sender))


def _saved(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    channel.of(using).fulfil(instance)


def _save_failed(sender: Any, instance: Any, **kwargs: Any) -> None:
    channel.forget(instance)


def _writing(sender: Any, using: str, origin: str, **kwargs: Any) -> None:
    meta = getattr(sender, "_meta", None)
    channel.of(using).announce("m2m" if meta and meta.auto_created else origin, sender)


def _written(sender: Any, using: str, **kwargs: Any) -> None:
    channel.of(using).fulfil(sender)


# Events of Django


def _logged_in(sender: Any, user: Any, **kwargs: Any) -> None:
    events.record("login", user)


def _logged_out(sender: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        with context.acting_as(user):  # by now the request is nobody's
            events.record("logout", user)


def _request_failed(sender: Any, request: Any, **kwargs: Any) -> None:
    events.record_error(request)


# Records


def _recorded(sender: Any, record: Any, **kwargs: Any) -> None:
    lines.write(record)


# Migrations


def _migrating(sender: Any, **kwargs: Any) -> None:
    _hear_last_of_migrations()
    installing.begin(**kwargs)


def _hear_last_of_migrations() -> None:
    """Be called after all who write rows when an app has been migrated: that is the migration's work as well."""
    about: Any = {"sender": installing.last_app(), "dispatch_uid": "auditlog.migrated"}
    post_migrate.disconnect(**about)
    post_migrate.connect(_migrated, **about)


def _migrated(sender: Any, **kwargs: Any) -> None:
    installing.finish(**kwargs)
