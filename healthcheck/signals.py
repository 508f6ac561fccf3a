"""What happens here that others may want to hear of."""

from django.dispatch import Signal

serving = Signal()  # sent by `serve`, once it listens

# Both are sent inside the transaction that writes the run, with `run`: a listener's rows are committed with it or not
# at all, and a listener that fails takes it along.
operation_asked = Signal()  # somebody has asked for an operation, which waits for a worker now
operation_ended = Signal()  # it is done or has failed; the run says which
