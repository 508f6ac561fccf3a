"""The settings with the sample app of the tests, for mypy; the tests themselves add it in `conftest`."""

from config.settings import *  # noqa: F403

INSTALLED_APPS = [
    *INSTALLED_APPS,  # noqa: F405
    "tests.hostapp",
    "tests.hostapp.tasks",
    "tests.hostapp.queries",
    "tests.hostapp.machines",
]
