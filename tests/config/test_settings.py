"""A start with bad settings is refused, and every fault is named at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQR",
    "BASE_URL": "https://accounts.example.com",
    "EMAIL_URL": "smtp+tls://user:word@mail.example.com:587",
    "TRUSTED_PROXIES": "1",
}


def start(
    environment: dict[str, str], code: str = "from django.conf import settings; settings.DEBUG"
) -> subprocess.CompletedProcess[str]:
    """Read the settings in a fresh process that inherits nothing and finds no .env."""
    program = f"import environ; environ.Env.read_env = lambda *a, **k: None\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "config.settings", **environment},
        capture_output=True,
        text=True,
    )


def test_nothing_set_names_everything_that_is_missing() -> None:
    faults = start({}).stderr
    assert [name for name in ("SECRET_KEY", "BASE_URL", "EMAIL_URL") if f"{name}: must" in faults] == [
        "SECRET_KEY",
        "BASE_URL",
        "EMAIL_URL",
    ]


def test_production_starts_with_the_five_required_variables() -> None:
    assert start(PRODUCTION).returncode == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEBUG", "on"),
        ("DEBUG", "maybe"),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "a" * 80),
        ("SECRET_KEY", "django-insecure-0123456789abcdefghijklmnopqrstuvwxyzABCDEF"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "*.example.com"),
        ("BASE_URL", "http://accounts.example.com"),
        ("BASE_URL", "accounts.example.com"),
        ("BASE_URL", "https://accounts.example.com/path"),
        ("BASE_URL", "https://["),
        ("BASE_URL", "https://accounts.example.com:99999"),
        ("BASE_URL", "https://user:word@accounts.example.com"),
        ("BASE_URL", "https://accounts.example.com#top"),
        ("SECRET_KEY_FALLBACKS", "abc"),
        ("SECRET_KEY_SINCE", "2999-01-01"),
        ("ALLOWED_HOSTS", ".com"),
        ("EMAIL_URL", "smtp://"),
        ("EMAIL_URL", "smtp://user:word@mail.example.com:25"),
        ("TRUSTED_PROXIES", "0"),
        ("ENVIRONMENT", "staging"),
        ("PORT", "0"),
        ("PORT", "eight"),
        ("DATABASE_URL", "mysql://user:word@host/name"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_DIRECT_URL", "postgresql://user:word@host/name"),
        ("DATABASE_POOLER", "session"),
        ("ROW_SECURITY", "perhaps"),
        ("DATABASE_REPLICA_URLS", "postgresql://user:word@host/name"),  # without DATABASE_URL
        ("DATABASE_REPLICA_LAG", "0"),
        ("DATABASE_DEADLINE", "nan"),
        ("DATABASE_CONN_MAX_AGE", "-1"),
        ("EMBEDDED_POSTGRES", "sometimes"),
        ("SIGNUP_MODE", "ajar"),
        ("UNCONFIRMED_ACCOUNT_DAYS", "2"),  # the link in the mail works for three
        ("PASSWORD_POLICY", "none"),
        ("PASSWORD_BREACH_CHECK", "perhaps"),
        ("PASSWORD_BREACH_URL", "http://api.example.com/range/"),
        ("PASSWORD_BREACH_URL", "file:///etc/passwd"),
        ("PASSWORD_HISTORY", "9"),
        ("PASSWORD_HASHER", "md5"),
        ("BCRYPT_ROUNDS", "4"),
        ("EMAIL_URL", "carrier-pigeon://"),
        ("LOG_FORMAT", "xml"),
        ("TRUSTED_PROXIES", "-1"),
    ],
)
def test_a_nonsensical_value_is_refused_by_name(variable: str, value: str) -> None:
    refused = start(PRODUCTION | {variable: value})
    assert refused.returncode != 0
    assert f"{variable}: " in refused.stderr


def test_a_fault_in_the_database_address_does_not_print_its_password() -> None:
    assert "open-sesame" not in start(PRODUCTION | {"DATABASE_URL": "mysql://u:open-sesame@h/n"}).stderr


def test_manage_py_says_one_clear_line_for_each_fault_and_no_traceback() -> None:
    refused = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENVIRONMENT": "production", "SECRET_KEY": "short", "DEBUG": "on"},
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 3
    assert "Traceback" not in refused.stderr
    assert "SECRET_KEY: must be" in refused.stderr
    assert "DEBUG: must be off" in refused.stderr


def test_cookies_are_secure_and_bound_to_the_host_behind_https() -> None:
    cookies = "s.SESSION_COOKIE_NAME, s.DEVICE_COOKIE_NAME, s.WRITTEN_COOKIE_NAME"
    names = f"{cookies}, s.CSRF_COOKIE_SECURE, s.SECURE_HSTS_SECONDS"
    code = f"from django.conf import settings as s; print({names})"
    assert start(PRODUCTION, code).stdout.split() == [
        "__Host-sessionid",
        "__Host-device",
        "__Host-written",
        "True",
        "63072000",
    ]


def test_migrations_over_http_are_off_unless_asked_for() -> None:
    code = "from django.conf import settings; print(settings.HEALTH_MIGRATIONS)"
    assert start(PRODUCTION, code).stdout.strip() == "False"
    assert start(PRODUCTION | {"HEALTH_MIGRATIONS": "on"}, code).stdout.strip() == "True"


def test_counters_have_a_directory_of_their_own_also_when_an_empty_one_is_named() -> None:
    """Whoever starts first empties it of databases."""
    code = "from django.conf import settings as s; print(s.HEALTH_METRICS_DIRECTORY.relative_to(s.BASE_DIR))"
    assert start(PRODUCTION | {"HEALTH_METRICS_DIRECTORY": ""}, code).stdout.strip() == ".metrics"


def test_a_pooler_gets_no_startup_options_and_no_server_side_cursors() -> None:
    code = (
        "from django.conf import settings; d = settings.DATABASES;"
        "print(d['default'].get('DISABLE_SERVER_SIDE_CURSORS'), 'options' in d['default']['OPTIONS'],"
        " d['direct']['HOST'], d['default']['OPTIONS']['sslmode'])"
    )
    addresses = {
        "DATABASE_URL": "postgresql://app:word@pooler:6432/gatehouse?sslmode=require",
        "DATABASE_DIRECT_URL": "postgresql://owner:word@database:5432/gatehouse",
        "DATABASE_POOLER": "transaction",
    }
    assert start(PRODUCTION | addresses, code).stdout.split() == ["True", "False", "database", "require"]


def test_row_security_wants_a_role_that_is_not_the_owners() -> None:
    one = {"DATABASE_URL": "postgresql://app:word@database:5432/gatehouse", "ROW_SECURITY": "on"}
    assert "ROW_SECURITY: needs two roles" in start(PRODUCTION | one).stderr
    two = one | {"DATABASE_DIRECT_URL": "postgresql://owner:word@database:5432/gatehouse"}
    assert start(PRODUCTION | two, "pass").returncode == 0


def test_replicas_are_read_only_and_bound_to_nothing_when_there_are_none() -> None:
    code = (
        "from django.conf import settings as s; r = s.DATABASES.get('replica2', {});"
        "print(s.DATABASE_REPLICAS, s.HEALTH_REPLICAS, r.get('HOST'), r.get('USER'), 'options' in r.get('OPTIONS', {}),"
        " '-c default_transaction_read_only=on' in r.get('OPTIONS', {}).get('options', ''), len(s.DATABASE_ROUTERS),"
        " 'config.middleware.ReplicaMiddleware' in s.MIDDLEWARE)"
    )
    addresses = {
        "DATABASE_URL": "postgresql://app:word@one:5432/gatehouse",
        "DATABASE_REPLICA_URLS": "postgresql://app:word@two:5432/gatehouse, postgresql://app:word@three/gatehouse",
    }
    both = "['replica1', 'replica2'] ['replica1', 'replica2'] three app"
    assert start(PRODUCTION | addresses, code).stdout.strip() == f"{both} True True 1 True"
    pooled = {"DATABASE_POOLER": "transaction"}
    assert start(PRODUCTION | addresses | pooled, code).stdout.strip() == f"{both} False False 1 True"
    assert start(PRODUCTION, code).stdout.strip() == "[] [] None None False False 0 False"


def test_timeouts_reach_the_server_without_a_pooler() -> None:
    code = "from django.conf import settings; print(settings.DATABASES['default']['OPTIONS']['options'])"
    address = {"DATABASE_URL": "postgresql://app:word@database:5432/gatehouse", "DATABASE_LOCK_TIMEOUT": "1.5"}
    assert start(PRODUCTION | address, code).stdout.strip() == (
        "-c statement_timeout=30000 -c lock_timeout=1500 -c idle_in_transaction_session_timeout=60000"
    )


def test_env_example_names_every_variable_and_no_other() -> None:
    read = re.compile(r"env\.(?:text|choices?|words|flag|day|integer|seconds|digests|limits)\(\s*\"([A-Z_]+)\"")
    sources = [ROOT / "config" / "settings.py", ROOT / "config" / "database" / "settings.py"]
    wanted = {name for path in sources for name in read.findall(path.read_text())}
    listed = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert listed == wanted


IN_PRODUCTION = """
import django, json
django.setup()
from django.conf import settings
from django.contrib.messages.storage import default_storage
from django.http import HttpRequest
from django.test import Client
browser = Client(headers={"host": "accounts.example.com", "x-forwarded-proto": "https"})
print(json.dumps({
    "malformed": [browser.get("/?%00").status_code, browser.get("/?%00").get("Strict-Transport-Security")],
    "development": [browser.get(path).status_code for path in ("/dev/mail/", "/dev/style/")],
    "cookies": [settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, settings.DEVICE_COOKIE_NAME,
                default_storage(HttpRequest()).cookie_name],
    "attributes": [settings.SESSION_COOKIE_SECURE, settings.SESSION_COOKIE_HTTPONLY, settings.SESSION_COOKIE_SAMESITE,
                   settings.CSRF_COOKIE_SECURE, settings.CSRF_COOKIE_HTTPONLY, settings.CSRF_COOKIE_SAMESITE],
}))
"""


def test_in_production_cookies_and_answers_belong_to_https_and_no_mail_is_shown() -> None:
    found = json.loads(start(PRODUCTION, IN_PRODUCTION).stdout)
    assert found == {
        "malformed": [400, "max-age=63072000; includeSubDomains; preload"],
        "development": [404, 404],
        "cookies": ["__Host-sessionid", "__Host-csrftoken", "__Host-device", "__Host-messages"],
        "attributes": [True, True, "Lax"] * 2,
    }
