"""What happens here that others may want to record or to count.

Both are sent inside the transaction that writes the run, with `run`: a listener's rows are committed with it or not at
all, and a listener that fails takes it along.
"""

from django.dispatch import Signal

operation_asked = Signal()  # somebody has asked for an operation, which waits for a worker now
operation_ended = Signal()  # it is done or has failed; the run says which
