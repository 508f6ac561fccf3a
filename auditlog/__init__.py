"""The audit trail: every committed change has exactly one record, and nothing else has any.

`register` a model in an `AppConfig.ready`; `record` events of your own; `acting_as` somebody in commands and jobs;
`carried` takes the context into a thread. ``docs/audit.md`` tells the rest.
"""

from typing import TYPE_CHECKING

from auditlog.context import Actor, acting_as, carried
from auditlog.registry import register, unregister

if TYPE_CHECKING:
    from auditlog.events import record

__all__ = ["Actor", "acting_as", "carried", "record", "register", "unregister"]


def __getattr__(name: str) -> object:
    # `record` needs models, which are not ready when this package is first imported.
    if name == "record":
        from auditlog.events import record

        return record
    raise AttributeError(name)
