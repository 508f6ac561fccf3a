"""What `manage.py check` says about the trail, and what cannot be registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection, models
from django.db.migrations.executor import MigrationExecutor
from pytest_django.plugin import DjangoDbBlocker

import auditlog
from accounts.models import User
from auditlog import registry, triggers
from auditlog.registry import NotAuditable
from config.database.roles import as_owner
from tests.auditlog.world import Trail
from tests.hostapp.models import Secretive, Tag, Thing, Truck, Word

HINT = "Name it in masked=, excluded= or clear= where the model is registered."


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """What a test registers ends with it."""
    kept = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(kept)


def warned(code: str, databases: list[str] | None = None) -> list[Any]:
    return [message for message in run_checks(databases=databases) if message.id == code]


# W001


def test_nothing_of_ours_is_masked_by_its_name_alone() -> None:
    assert [warning.obj for warning in warned("auditlog.W001")] == [Secretive]  # the tests' own, on purpose


@pytest.mark.parametrize("decision", ["masked", "excluded", "clear"])
def test_a_secret_that_nobody_decided_about_is_named_until_somebody_does(decision: str) -> None:
    auditlog.register(Secretive, label=["name"])
    (warning,) = warned("auditlog.W001")
    assert warning.msg.startswith("'api_key' bears the name of a secret")
    assert (warning.obj, warning.hint) == (Secretive, HINT)
    options: Any = {decision: ["api_key"]}
    auditlog.register(Secretive, **options)
    assert warned("auditlog.W001") == []


def test_a_json_field_needs_no_decision_for_what_may_be_in_it() -> None:
    auditlog.register(Secretive, masked=["api_key"])
    assert warned("auditlog.W001") == []


# W002


@pytest.fixture
def as_declared(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Whatever the test does to the triggers, they end as they began."""
    kept = dict(registry._registered)
    with django_db_blocker.unblock():
        yield
        registry._registered.clear()
        registry._registered.update(kept)
        with as_owner():
            triggers.install(connection)


def owner(statement: str) -> None:
    with as_owner(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.usefixtures("as_declared")
def test_triggers_as_declared_are_no_warning() -> None:
    assert warned("auditlog.W002", ["default"]) == []


TAMPERED = {
    "gone": "DROP TRIGGER auditlog_on_update ON hostapp_tag",
    "off": "ALTER TABLE hostapp_tag DISABLE TRIGGER auditlog_on_update",
    "for replicas only": "ALTER TABLE hostapp_tag ENABLE REPLICA TRIGGER auditlog_on_update",
    "another body": "CREATE OR REPLACE FUNCTION auditlog_on_update_hostapp_tag() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
}


@pytest.mark.usefixtures("as_declared")
@pytest.mark.parametrize("how", TAMPERED)
def test_a_trigger_that_is_not_as_declared_is_named_and_mended_by_migrate(how: str) -> None:
    owner(TAMPERED[how])
    (warning,) = warned("auditlog.W002", ["default"])
    assert warning.msg == "The database does not record as the models declare: update on hostapp_tag."
    assert "manage.py migrate" in warning.hint
    with as_owner():
        assert triggers.install(connection) == 1
    assert warned("auditlog.W002", ["default"]) == []
    tag = Tag.objects.create(name="red")
    trail = Trail()
    Tag.objects.filter(pk=tag.pk).update(name="rose")
    assert [entry.new for entry in trail.entries()] == [{"name": "rose"}]
    tag.delete()


@pytest.mark.usefixtures("as_declared")
def test_a_model_that_is_registered_or_left_out_waits_for_migrate() -> None:
    auditlog.unregister(Tag)
    auditlog.register(Word, label=["code"], excluded=["meaning"])
    (warning,) = warned("auditlog.W002", ["default"])
    assert warning.msg.endswith(
        "delete on hostapp_tag, delete on hostapp_word, insert on hostapp_tag, insert on hostapp_word,"
        " truncate on hostapp_tag and 2 more."
    )


@pytest.mark.usefixtures("as_declared")
def test_before_migrations_that_will_put_them_right_nothing_is_said() -> None:
    owner(TAMPERED["gone"])
    executor = MigrationExecutor(connection)
    ((app, newest),) = executor.loader.graph.leaf_nodes("auditlog")
    executor.recorder.record_unapplied(app, newest)
    try:
        assert warned("auditlog.W002", ["default"]) == []
    finally:
        executor.recorder.record_applied(app, newest)


@pytest.mark.usefixtures("as_declared")
def test_without_a_database_none_is_asked() -> None:
    owner(TAMPERED["gone"])
    assert warned("auditlog.W002") == []


# What cannot be registered


class Proxy(Tag):
    class Meta:
        proxy = True
        app_label = "hostapp"


class Abstract(models.Model):
    class Meta:
        abstract = True
        app_label = "hostapp"


@pytest.mark.parametrize("model", [Proxy, Abstract, Thing.tags.through])
def test_what_has_no_table_of_its_own_is_refused(model: Any) -> None:
    with pytest.raises(NotAuditable, match="has no table of its own"):
        auditlog.register(model)


@pytest.mark.parametrize("option", ["label", "excluded", "masked", "personal", "quiet", "clear"])
def test_a_name_that_is_no_field_is_refused(option: str) -> None:
    options: Any = {option: ["colour"]}
    with pytest.raises(NotAuditable, match=r"hostapp.Tag has no field of its own called colour\."):
        auditlog.register(Tag, **options)


def test_a_field_of_the_parent_is_refused() -> None:
    with pytest.raises(NotAuditable, match=r"hostapp.Truck has no field of its own called name\."):
        auditlog.register(Truck, label=["name"])


@pytest.mark.parametrize(("model", "key"), [(Tag, "id"), (Word, "code"), (User, "id")])
def test_a_record_without_the_key_is_refused(model: Any, key: str) -> None:
    with pytest.raises(NotAuditable, match=f"without its key \\({key}\\) a record would be about nothing"):
        auditlog.register(model, excluded=[key])


@pytest.mark.parametrize("options", [{"masked": ["code"]}, {"excluded": ["code"]}])
def test_a_label_that_would_tell_what_is_hidden_is_refused(options: Any) -> None:
    with pytest.raises(NotAuditable, match="its label would show code, which its records hide"):
        auditlog.register(Secretive, label=["name", "code"], **options)


def test_a_label_with_the_name_of_a_secret_is_refused_until_it_is_declared_clear() -> None:
    with pytest.raises(NotAuditable, match="its label would show api_key"):
        auditlog.register(Secretive, label=["api_key"])
    auditlog.register(Secretive, label=["api_key"], clear=["api_key"])
