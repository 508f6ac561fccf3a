"""Rows that are deleted softly, and rows that refuse to overwrite what somebody else has saved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import IntegrityError, connection, connections, migrations, transaction
from django.db.migrations.state import ProjectState
from django.utils import timezone

from config import rows
from config.database.roles import as_owner
from config.rows import CountVersions, StaleRow
from tests.errands.models import Errand
from tests.factories import UserFactory
from tests.hostapp.models import Comment, Note, Tag
from tests.live import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def note(db: None) -> Note:
    made: Note = Note.objects.create(title="first", text="as it was")
    return made


def read(note: Note) -> Note:
    found: Note = Note.all_objects.get(pk=note.pk)
    return found


def titles(notes: Any) -> list[str]:
    return sorted(note.title for note in notes)


# --- deleted softly ---------------------------------------------------------------------------------


def delete_it(note: Note) -> Any:
    return note.delete()


def delete_a_queryset(note: Note) -> Any:
    return Note.objects.filter(pk=note.pk).delete()


def delete_by_the_relation(note: Note) -> Any:
    return Note.all_objects.filter(pk=note.pk).delete()


DELETES = [delete_it, delete_a_queryset, delete_by_the_relation]


@pytest.mark.parametrize("delete", DELETES)
def test_what_is_deleted_is_hidden_kept_and_restored(note: Note, delete: Callable[[Note], Any]) -> None:
    comment = Comment.objects.create(note=note, text="hangs on it")
    other = Note.objects.create(title="other")
    assert delete(note) == (1, {"hostapp.Note": 1})
    assert titles(Note.objects.all()) == ["other"]
    assert titles(Note.all_objects.all()) == ["first", "other"]
    comment.refresh_from_db()
    assert comment.note.title == "first"  # a foreign key still leads to it
    assert delete(read(note)) in ((0, {}), (0, {"hostapp.Note": 0}))
    read(note).restore()
    assert titles(Note.objects.all()) == ["first", "other"]
    assert (read(note).deleted_at, read(other).deleted_at) == (None, None)


def test_many_are_restored_at_once(note: Note) -> None:
    Note.objects.create(title="other")
    assert Note.objects.all().delete() == (2, {"hostapp.Note": 2})
    assert Note.all_objects.filter(title="other").restore() == 1
    assert titles(Note.objects.all()) == ["other"]


@pytest.mark.parametrize("erase", [lambda note: note.erase(), lambda note: Note.all_objects.filter(pk=note.pk).erase()])
def test_erasing_is_for_good_and_cascades(note: Note, erase: Callable[[Note], Any]) -> None:
    Comment.objects.create(note=note, text="hangs on it")
    note.delete()
    erase(read(note))
    assert not Note.all_objects.exists()
    assert not Comment.objects.exists()


def test_the_living_alone_are_unique(note: Note) -> None:
    note.delete()
    Note.objects.create(title="first")
    with pytest.raises(IntegrityError), transaction.atomic():
        read(note).restore()
    assert read(note).deleted_at is not None


# --- of one person ----------------------------------------------------------------------------------


def test_a_persons_rows_are_found_and_with_the_other_bases_the_living_ones() -> None:
    ada, bob = UserFactory.create(username="ada"), UserFactory.create(username="bob")
    mine = [Errand.objects.create(owner=ada, title=title) for title in ("first", "second")]
    Errand.objects.create(owner=bob, title="his")
    mine[0].delete()
    assert titles(Errand.objects.of(ada)) == ["second"]
    assert titles(Errand.objects.filter(title__contains="s").of(bob)) == ["his"]
    assert titles(Errand.all_objects.of(ada)) == ["first", "second"]
    assert titles(Errand.objects.of(AnonymousUser())) == []
    assert titles(Errand.objects.all()) == ["his", "second"]
    assert Errand.all_objects.of(ada).restore() == 1
    assert Errand.objects.of(ada).delete() == (2, {"errands.Errand": 2})


# --- versions ---------------------------------------------------------------------------------------


def test_every_edit_is_counted_whoever_makes_it(note: Note) -> None:
    def update() -> None:
        Note.objects.filter(pk=note.pk).update(text="by update")

    def by_sql() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE hostapp_note SET text = 'by SQL', version = 99 WHERE id = %s", [note.pk])

    def save() -> None:
        fresh = read(note)
        fresh.text = "by save"
        fresh.save()

    for number, edit in enumerate([update, by_sql, save], start=2):
        before = read(note).updated_at
        edit()
        assert read(note).version == number
        assert read(note).updated_at > before


def test_a_change_of_nothing_or_of_silent_fields_is_no_edit(note: Note) -> None:
    note.save()
    Note.objects.filter(pk=note.pk).update(read_count=7, updated_at=timezone.now())
    assert read(note).version == 1


def test_saving_again_and_again_is_not_stale(note: Note) -> None:
    for number in range(3):
        note.text = f"edit {number}"
        note.save()
    assert (note.version, read(note).version, note.updated_at) == (4, 4, read(note).updated_at)


@pytest.mark.parametrize("fields", [None, ["text"]], ids=["all", "update_fields"])
def test_a_stale_save_says_what_has_changed_and_writes_nothing(note: Note, fields: list[str] | None) -> None:
    mine, theirs = read(note), read(note)
    theirs.text = "theirs"
    theirs.save()
    mine.text = "mine"
    with pytest.raises(StaleRow) as stale:
        mine.save(update_fields=fields)
    assert stale.value.changed == {"text": ("mine", "theirs")}
    assert stale.value.current is not None
    assert (stale.value.current.version, read(note).text) == (2, "theirs")
    # Whoever has looked at it may mean it.
    mine.version = stale.value.current.version
    mine.save()
    assert (read(note).text, read(note).version) == ("mine", 3)


def test_deleting_what_somebody_has_changed_is_stale_too(note: Note) -> None:
    mine = read(note)
    note.text = "theirs"
    note.save()
    with pytest.raises(StaleRow):
        mine.delete()
    assert read(note).deleted_at is None


def test_what_is_gone_is_not_brought_back_by_a_stale_save(note: Note) -> None:
    mine = read(note)
    note.erase()
    with pytest.raises(StaleRow) as stale:
        mine.save()
    assert stale.value.current is None
    assert not Note.all_objects.exists()


def test_silent_fields_can_always_be_saved(note: Note) -> None:
    mine = read(note)
    note.text = "theirs"
    note.save()
    mine.read_count = 1
    mine.save(update_fields=["read_count"])
    assert (read(note).read_count, read(note).text) == (1, "theirs")


def test_a_stale_save_spoils_no_transaction(note: Note) -> None:
    mine = read(note)
    Note.objects.filter(pk=note.pk).update(text="theirs")
    with pytest.raises(StaleRow):
        mine.save()
    assert Tag.objects.create(name="still working").pk


@pytest.mark.django_db(transaction=True)
def test_of_many_who_save_at_once_one_is_first_and_no_edit_is_lost() -> None:
    note = Note.objects.create(title="first", text="0")
    copies = [read(note) for _ in range(6)]

    def add_one(copy: Note) -> str:
        """As somebody who reads again whenever another was faster."""
        told = []
        try:
            while True:
                copy.text = str(int(copy.text) + 1)
                try:
                    copy.save()
                except StaleRow as stale:
                    told.append("stale")
                    copy = stale.current  # type: ignore[assignment]
                else:
                    return told[0] if told else "first"
        finally:
            connections.close_all()

    told = at_once([partial(add_one, copy) for copy in copies])
    assert sorted(told) == ["first", *["stale"] * 5]
    assert (read(note).text, read(note).version) == ("6", 7)


# --- the migration's operation ----------------------------------------------------------------------


def test_the_operation_is_written_into_migrations_as_it_was_given() -> None:
    operation = CountVersions("note", silent=["read_count"])
    assert operation.deconstruct() == ("CountVersions", ("note",), {"silent": ["read_count"]})
    assert "note" in operation.describe()
    assert isinstance(operation, migrations.operations.base.Operation)


def test_a_versioned_model_that_nobody_counts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    call_command("check", "--database", "default")
    monkeypatch.setattr(rows, "_COUNTED", rows._COUNTED + " AND false")
    with pytest.raises(SystemCheckError, match=r"config\.E003.*hostapp\.Note|hostapp\.Note.*config\.E003"):
        call_command("check", "--database", "default")


@pytest.mark.django_db(transaction=True)
def test_the_operation_puts_the_trigger_on_the_table_and_takes_it_off_again() -> None:
    operation, state = CountVersions("note"), ProjectState.from_apps(apps)
    note = Note.objects.create(title="first")

    def count_after(method: str) -> int:
        with as_owner(), connection.schema_editor() as editor:
            getattr(operation, method)("hostapp", editor, state, state)
        Note.objects.filter(pk=note.pk).update(text=method)
        return read(note).version

    try:
        assert [count_after("database_backwards"), count_after("database_forwards")] == [1, 2]
    finally:
        with as_owner():
            rows.count_versions(connection, Note, silent=Note.silent)
