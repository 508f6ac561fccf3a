"""What other apps can hear of."""

from django.dispatch import Signal

serving = Signal()  # sent by `serve`, once it listens
