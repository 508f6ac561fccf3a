"""Only what the two bare views need; gunicorn's configuration reads the rest."""

from config.settings import *  # noqa: F403
from config.settings import DATABASES

INSTALLED_APPS = []
MIDDLEWARE = []
ROOT_URLCONF = "tests.bench.bare"
# Persistent, never tried, and without the client-side deadline: the cheapest that Django has.
DATABASES = {
    "default": DATABASES["default"]
    | {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": False}
}
