"""The settings with the sample apps of the tests, for mypy; the tests themselves add them in `conftest`."""

from config.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.hostapp", "tests.errands"]  # noqa: F405
