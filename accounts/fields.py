"""A column that is derived from another one whenever a row is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models


class DerivedTextField(models.TextField):  # type: ignore[type-arg]  # the plugin gives it its types
    """Text computed in Python from the field named `source`, just before every INSERT and UPDATE of it.

    `bulk_create` passes through here too. `update()`, `bulk_update()`, fixtures (which carry the columns) and
    raw SQL do not, which is why the table keeps the source beside it and a check constraint refuses a stale value.
    """

    def __init__(self, *args: Any, source: str, derive: Callable[[str], str], **kwargs: Any) -> None:
        self.source = source
        self.derive = derive
        super().__init__(*args, **{**kwargs, "editable": False})

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("editable", None)
        return name, path, list(args), {**kwargs, "source": self.source, "derive": self.derive}

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        value = self.derive(getattr(model_instance, self.source))
        setattr(model_instance, self.attname, value)
        return value


def unchanged(text: str) -> str:
    """Return `text`; derives the copy of the source that the check constraint compares."""
    return text
