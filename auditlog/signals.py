"""Signals of the trail."""

from django.dispatch import Signal

# Around the writes that Django does not announce without changing how it writes. Sender: the model.
# Arguments: `using` (alias of the database), `origin` ("bulk" or "delete").
writing = Signal()
written = Signal()

# After a save that failed, which has no `post_save`. Sender: the model. Argument: `instance`.
failed = Signal()

# After commit, for each record. Sender: `auditlog.models.Record`. Argument: `record`.
recorded = Signal()

# The same, for as many records at a time as move the cursor together, for whoever writes to the database about them:
# one statement for the batch then does for a hundred. Sent before the others; when a listener raises OperationalError,
# nobody else is told, and all are told again at the next turn. Sender: the same. Argument: `records`.
batch_recorded = Signal()
