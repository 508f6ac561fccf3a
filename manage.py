#!/usr/bin/env python
"""Gatehouse's command line."""

import os
import sys

CANNOT_RUN = 3  # a monitor must not take it for the answer of `manage.py health`


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db.utils import OperationalError

    try:
        settings.INSTALLED_APPS  # noqa: B018 - reads the settings, so that a fault is one clear line
    except ImproperlyConfigured as fault:
        sys.stderr.write(f"Gatehouse cannot start:\n{fault}\n")
        sys.exit(CANNOT_RUN)
    try:
        execute_from_command_line(sys.argv)
    except BrokenPipeError:
        # Whoever read our output has stopped, as `| head` does. Python would meet the pipe again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except EOFError:
        sys.exit("This needs an answer on standard input. Nothing was changed.")
    except OperationalError as fault:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"The database does not answer, or refuses: {str(fault).strip().splitlines()[0]}")


if __name__ == "__main__":
    main()
