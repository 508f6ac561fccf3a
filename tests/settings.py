"""The settings with the sample apps of the tests, for mypy; the tests themselves add them in `conftest`."""

from config.settings import *  # noqa: F403

INSTALLED_APPS = [
    *INSTALLED_APPS,  # noqa: F405
    "tests.hostapp",
    "tests.hostapp.tasks",
    "tests.hostapp.queries",
    "tests.hostapp.machines",
    "tests.errands",
]
