"""All settings, driven by the environment. `.env.example` explains every variable.

Safe when nothing is set: a missing or nonsensical value stops the start, and all faults are named at once.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path

import django_stubs_ext
import environ

from config import logs
from config.database import branches
from config.database.settings import databases, replicas_of
from config.env import Environment

# Lets annotations like ModelForm[User] stand in class statements at run time too.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
environ.Env.read_env(BASE_DIR / ".env")  # never overrides what the environment already says
env = Environment()

# --- Where we are ------------------------------------------------------------------------------------
ENVIRONMENT = env.choice("ENVIRONMENT", ("production", "development"), "production")
DEVELOPMENT = ENVIRONMENT == "development"
DEBUG = env.flag("DEBUG", default=False)
if DEBUG and not DEVELOPMENT:
    env.fault("DEBUG: must be off outside development; it shows settings and code to strangers.")

SECRET_KEY = env.text("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
env.require_random("SECRET_KEY", [SECRET_KEY])
env.require_random("SECRET_KEY_FALLBACKS", SECRET_KEY_FALLBACKS)
SECRET_KEY_SINCE = env.day("SECRET_KEY_SINCE")

PORT = env.integer("PORT", 8000, low=1, high=65535)
BIND = env.text("BIND", "127.0.0.1")
# The one base of every link in a mail: a link is never built from a request's Host header.
BASE_URL = env.text("BASE_URL", f"http://localhost:{PORT}" if DEVELOPMENT else "").rstrip("/")
_base = env.site_address("BASE_URL", BASE_URL)
if _base.scheme == "http" and not DEVELOPMENT:
    env.fault("BASE_URL: must begin with https:// outside development.")
HTTPS = _base.scheme == "https"

ALLOWED_HOSTS = env.words("ALLOWED_HOSTS") or [_base.hostname or ""]
if any("*" in host or host.startswith(".") for host in ALLOWED_HOSTS):
    env.fault("ALLOWED_HOSTS: must name each host; * and a leading dot accept forged Host headers.")
if DEVELOPMENT:
    ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]"]
# How many proxies in front of us append to X-Forwarded-For; 0 believes nobody.
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", 0, low=0, high=9)
if HTTPS and not TRUSTED_PROXIES:
    env.fault("TRUSTED_PROXIES: must be 1 or more with https: a proxy in front of us has to end it.")

# --- What we are -------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "config.apps.GatehouseConfig",
    "accounts.apps.AccountsConfig",
    "auditlog.apps.AuditlogConfig",
    "healthcheck.apps.HealthcheckConfig",
    "config.apps.GatehouseAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",
    "axes",
    "django_tasks",
    "config.apps.JobsConfig",
]
MIDDLEWARE = [
    "config.middleware.RequestIdMiddleware",
    "healthcheck.metrics.prometheus.RequestMetricsMiddleware",
    "auditlog.middleware.AuditMiddleware",
    "config.middleware.LanguageMiddleware",
    "config.middleware.HeadMiddleware",
    "config.middleware.SecurityHeadersMiddleware",
    "healthcheck.middleware.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.WellFormedMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.PackingMiddleware",
    "config.middleware.OwnRedirectsMiddleware",
    "config.middleware.DatabaseBudgetMiddleware",
    "accounts.session_engine.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "config.middleware.BoundedBodyMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.preferences.PreferencesMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "config.middleware.MethodPageMiddleware",
    "axes.middleware.AxesMiddleware",
    "accounts.devices.DeviceCookieMiddleware",
    "accounts.second_factor.enforcement.SecondFactorMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
# auth.W004: the username's key is unique by its canonical column (accounts.identity), not by its spelling.
# security.W002: our SecurityHeadersMiddleware sets X-Frame-Options, on errors of outer layers too.
SILENCED_SYSTEM_CHECKS = ["auth.W004", "security.W002"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Database ----------------------------------------------------------------------------------------
EMBEDDED_POSTGRES = env.choice("EMBEDDED_POSTGRES", ("persistent", "throwaway"), "persistent")
DATABASE_BRANCH = branches.current(BASE_DIR) if EMBEDDED_POSTGRES == "persistent" else branches.MAIN
DATABASES = databases(env, embedded_name=branches.database_of(DATABASE_BRANCH))
# Whether the database keeps the rows of one person from another (config.row_security). The owner is above its policies.
ROW_SECURITY = env.flag("ROW_SECURITY", default=False)
if ROW_SECURITY and DATABASES["default"].get("USER") == DATABASES["direct"].get("USER"):
    env.fault("ROW_SECURITY: needs two roles; give DATABASE_DIRECT_URL the owner's and DATABASE_URL another one's.")
# Seconds that one request may wait for the database in all; the page then is a 503 within three seconds.
DATABASE_DEADLINE = env.seconds("DATABASE_DEADLINE", 2.0, low=0.1, high=60)
DATABASE_REPLICAS = replicas_of(DATABASES)
# Seconds that a replica may be behind what the primary had written; further behind it is left out.
DATABASE_REPLICA_LAG = env.seconds("DATABASE_REPLICA_LAG", 10, low=1, high=3600)
if DATABASE_REPLICAS:
    DATABASE_ROUTERS = ["config.database.routing.ReplicaRouter"]
    MIDDLEWARE += ["config.middleware.ReplicaMiddleware"]  # the innermost: who is in is known, and from the primary

# --- Web server --------------------------------------------------------------------------------------
WEB_PROCESSES = env.integer("WEB_PROCESSES", 2, low=1, high=256)
WEB_THREADS = env.integer("WEB_THREADS", 8, low=1, high=256)

# --- Pages -------------------------------------------------------------------------------------------
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context.site",
            ],
        },
    },
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]  # those that exist, each by its own name
TIME_ZONE = "UTC"
USE_TZ = True
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "config.formats"

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / ".static"
STATICFILES_DIRS = [BASE_DIR / "config" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# An error page must not fail for want of a manifest entry.
WHITENOISE_MANIFEST_STRICT = False

# --- Requests and cookies ----------------------------------------------------------------------------
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
CSRF_FAILURE_VIEW = "config.errors.csrf_failure"
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 63_072_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if HTTPS and TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Browsers accept the __Host- prefix only with Secure, Path=/ and no Domain: no sibling host can plant one.
_prefix = "__Host-" if HTTPS else ""
SESSION_COOKIE_NAME = f"{_prefix}sessionid"
SESSION_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = f"{_prefix}csrftoken"
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = [BASE_URL]
DEVICE_COOKIE_NAME = f"{_prefix}device"
MESSAGE_COOKIE_NAME = f"{_prefix}messages"
WRITTEN_COOKIE_NAME = f"{_prefix}written"
MESSAGE_STORAGE = "config.messages.PrefixedCookieStorage"

# --- Audit trail -------------------------------------------------------------------------------------
AUDITLOG_CLIENT_ADDRESS = "config.client_address.client_address"
AUDITLOG_RETENTION_DAYS = env.integer("AUDITLOG_RETENTION_DAYS", 90, low=30, high=36500)
AUDITLOG_SEAL_KEY = env.text("AUDITLOG_SEAL_KEY")
AUDITLOG_SEAL_KEY_FALLBACKS = env.words("AUDITLOG_SEAL_KEY_FALLBACKS")
env.require_random("AUDITLOG_SEAL_KEY", [AUDITLOG_SEAL_KEY] if AUDITLOG_SEAL_KEY else [])
env.require_random("AUDITLOG_SEAL_KEY_FALLBACKS", AUDITLOG_SEAL_KEY_FALLBACKS)

# --- Health ------------------------------------------------------------------------------------------
# While this file is there, no process of the host is ready; `manage.py health drain` makes it.
HEALTH_DRAIN_FILE = env.text("HEALTH_DRAIN_FILE") or str(BASE_DIR / ".draining")
# Where `manage.py health serve` listens; 0: `manage.py serve` does not start it.
HEALTH_PORT = env.integer("HEALTH_PORT", 0, low=0, high=65535)
HEALTH_BIND = env.text("HEALTH_BIND") or BIND
# Bounds what health pages ask of the database in the name of whoever is signed in.
HEALTH_DATABASE_BUDGET = "config.database.deadline.database_budget"
# Speaks the language and the zone that whoever is signed in has chosen.
HEALTH_SPEAK_TO = "accounts.preferences.speak_to"
HEALTH_TOKEN_DIGESTS = env.digests("HEALTH_TOKEN_DIGESTS")
HEALTH_OPERATOR_TOKEN_DIGESTS = env.digests("HEALTH_OPERATOR_TOKEN_DIGESTS")
# Whether migrations may be applied over HTTP.
HEALTH_MIGRATIONS = env.flag("HEALTH_MIGRATIONS", default=DEVELOPMENT)
HEALTH_COOKIE_NAME = f"{_prefix}health"
# Where the processes of this host count; the directory is theirs alone.
HEALTH_METRICS_DIRECTORY = BASE_DIR / (env.text("HEALTH_METRICS_DIRECTORY") or ".metrics")
HEALTH_STATISTICS_SECONDS = env.seconds("HEALTH_STATISTICS_SECONDS", 300, low=1, high=86400)
# From where on a number warns, and from where on it fails.
HEALTH_LIMITS = {
    "response": env.limits("HEALTH_RESPONSE_LIMITS", (100, 400)),  # milliseconds of one question to the database
    "connections": env.limits("HEALTH_CONNECTIONS_LIMITS", (70, 90)),  # per cent of those that may be open
    "replicas": env.limits("HEALTH_REPLICAS_LIMITS", (10, 60)),  # seconds behind
    "cache": env.limits("HEALTH_CACHE_LIMITS", (50, 500)),  # milliseconds
    "mail": env.limits("HEALTH_MAIL_LIMITS", (2, 8)),  # seconds
    "disk": env.limits("HEALTH_DISK_LIMITS", (80, 95)),  # per cent used
    "audit_sealing": env.limits("HEALTH_AUDIT_SEALING_LIMITS", (2, 24)),  # hours of the oldest record without a seal
    "audit_partitions": env.limits("HEALTH_AUDIT_PARTITIONS_LIMITS", (8, 1)),  # weeks ahead
    "worker": env.limits("HEALTH_WORKER_LIMITS", (60, 600)),  # seconds of the oldest waiting job
    "clock": env.limits("HEALTH_CLOCK_LIMITS", (2, 30)),  # seconds between the host's clock and the database's
    "backups": env.limits("HEALTH_BACKUPS_LIMITS", (36, 168)),  # hours since the newest one on this host
}
HEALTH_HOST = env.text("HEALTH_HOST") or socket.gethostname()
HEALTH_DISK_PATHS = env.words("HEALTH_DISK_PATHS") or [str(BASE_DIR)]
HEALTH_REPLICAS = DATABASE_REPLICAS  # aliases of DATABASES whose lag is looked at
HEALTH_REPLICA_LAG = DATABASE_REPLICA_LAG  # seconds from which on nothing is read there

# --- Backups -----------------------------------------------------------------------------------------
BACKUP_DIRECTORY = BASE_DIR / (env.text("BACKUP_DIRECTORY") or ".backups")
BACKUPS_KEPT = env.integer("BACKUPS_KEPT", 14, low=0, high=100_000)

# --- Accounts ----------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "profile"
LOGOUT_REDIRECT_URL = "login"
SIGNUP_MODE = env.choice("SIGNUP_MODE", ("open", "invite", "closed"), "open")
SIGNUP_EMAIL_DOMAINS = [domain.lower() for domain in env.words("SIGNUP_EMAIL_DOMAINS")]
RESERVED_USERNAMES = env.words(
    "RESERVED_USERNAMES",
    "admin,administrator,root,system,support,security,help,info,abuse,postmaster,hostmaster,webmaster,"
    "noreply,no-reply,gatehouse,anonymous,null,none,undefined,me,self,staff,moderator,official",
)
NAME_RESERVED_DAYS = env.integer("NAME_RESERVED_DAYS", 90, low=0, high=36500)
# Under which the names of erased people stay reserved. Former keys must be kept as long as such names.
NAME_HASH_KEY = env.text("NAME_HASH_KEY")
NAME_HASH_KEY_FALLBACKS = env.words("NAME_HASH_KEY_FALLBACKS")
env.require_random("NAME_HASH_KEY", [NAME_HASH_KEY] if NAME_HASH_KEY else [])
env.require_random("NAME_HASH_KEY_FALLBACKS", NAME_HASH_KEY_FALLBACKS)
ACCOUNT_DELETION_GRACE_DAYS = env.integer("ACCOUNT_DELETION_GRACE_DAYS", 14, low=0, high=365)
EMAIL_VERIFICATION_HOURS = env.integer("EMAIL_VERIFICATION_HOURS", 72, low=1, high=720)
EMAIL_UNDO_DAYS = env.integer("EMAIL_UNDO_DAYS", 7, low=1, high=90)
DATA_EXPORT_HOURS = env.integer("DATA_EXPORT_HOURS", 48, low=1, high=720)
UNCONFIRMED_ACCOUNT_DAYS = env.integer("UNCONFIRMED_ACCOUNT_DAYS", 0, low=0, high=36500)
if 0 < UNCONFIRMED_ACCOUNT_DAYS * 24 < EMAIL_VERIFICATION_HOURS:
    env.fault("UNCONFIRMED_ACCOUNT_DAYS: must not be shorter than EMAIL_VERIFICATION_HOURS, in which links still work.")
INVITATION_DAYS = env.integer("INVITATION_DAYS", 14, low=1, high=365)
INVITATIONS_PER_DAY = env.integer("INVITATIONS_PER_DAY", 50, low=0, high=1_000_000)
INVITATIONS_PER_DAY_OF_SITE = env.integer("INVITATIONS_PER_DAY_OF_SITE", 1000, low=0, high=1_000_000)
IMPORT_PAGE_ROWS = env.integer("IMPORT_PAGE_ROWS", 2000, low=1, high=20_000)
IMPORTS_KEPT_DAYS = env.integer("IMPORTS_KEPT_DAYS", 30, low=1, high=36500)
# How long sessions last in all and unused; the stricter ones for staff are those of NIST SP 800-63B-4, AAL2.
SESSION_ENGINE = "accounts.session_engine"
SESSION_HOURS = env.integer("SESSION_HOURS", 336, low=1, high=8760)
SESSION_IDLE_MINUTES = env.integer("SESSION_IDLE_MINUTES", 10080, low=2, high=525_600)
STAFF_SESSION_HOURS = env.integer("STAFF_SESSION_HOURS", 24, low=1, high=8760)
STAFF_SESSION_IDLE_MINUTES = env.integer("STAFF_SESSION_IDLE_MINUTES", 60, low=2, high=525_600)
SESSION_COOKIE_AGE = 3600 * SESSION_HOURS
REAUTHENTICATION_MINUTES = env.integer("REAUTHENTICATION_MINUTES", 15, low=1, high=10080)
ADMIN_REAUTHENTICATION_MINUTES = env.integer("ADMIN_REAUTHENTICATION_MINUTES", 480, low=1, high=10080)
PASSWORD_RESET_TIMEOUT = 3600 * env.integer("PASSWORD_RESET_HOURS", 2, low=1, high=168)

PASSWORD_POLICY = env.choice("PASSWORD_POLICY", ("composition", "nist"), "composition")
_POLICIES = {
    "composition": (12, ["Lowercase", "Uppercase", "Digit", "Symbol", "NoSpace"]),
    "nist": (15, []),
}
# off: the list that belongs to the policy; offline: with what zxcvbn knows; remote: and asked at PASSWORD_BREACH_URL.
PASSWORD_BREACH_CHECK = env.choice("PASSWORD_BREACH_CHECK", ("off", "offline", "remote"), "offline")
PASSWORD_BREACH_URL = env.text("PASSWORD_BREACH_URL", "https://api.pwnedpasswords.com/range/")
if not PASSWORD_BREACH_URL.startswith(("https://", "http://") if DEVELOPMENT else "https://"):
    env.fault("PASSWORD_BREACH_URL: must begin with https://, to which five hexadecimal digits are added.")
# Each costs a hash when a password is chosen; with more, the page would take longer than three seconds.
PASSWORD_HISTORY = env.integer("PASSWORD_HISTORY", 0, low=0, high=8)
_shortest, _composition = _POLICIES[PASSWORD_POLICY]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "accounts.passwords.LengthValidator", "OPTIONS": {"shortest": _shortest}},
    {"NAME": "accounts.passwords.StorableValidator"},
    *({"NAME": f"accounts.passwords.{rule}Validator"} for rule in _composition),
    {
        "NAME": "accounts.passwords.NotCommonValidator",
        "OPTIONS": {"leaked": PASSWORD_BREACH_CHECK in ("offline", "remote")},
    },
    {"NAME": "accounts.passwords.NotLikeUserValidator"},
]
PASSWORD_HASHER = env.choice("PASSWORD_HASHER", ("bcrypt", "argon2id", "scrypt"), "bcrypt")
BCRYPT_ROUNDS = env.integer("BCRYPT_ROUNDS", 12, low=4 if DEVELOPMENT else 10, high=20)
PASSWORD_HASHES_AT_ONCE = env.integer("PASSWORD_HASHES_AT_ONCE", os.cpu_count() or 1, low=1, high=256)
_HASHERS = {
    "bcrypt": "accounts.hashers.BcryptHasher",
    "argon2id": "accounts.hashers.Argon2idHasher",
    "scrypt": "accounts.hashers.ScryptHasher",
}
PASSWORD_HASHERS = [_HASHERS.pop(PASSWORD_HASHER), *_HASHERS.values()]

AUTHENTICATION_BACKENDS = ["accounts.backends.ReservingBackend", "accounts.backends.IdentityBackend"]
LOGIN_FAILURE_LIMIT = env.integer("LOGIN_FAILURE_LIMIT", 5, low=1, high=1000)
LOGIN_FAILURES_PER_ACCOUNT = env.integer("LOGIN_FAILURES_PER_ACCOUNT", 50, low=1, high=100_000)
LOGIN_FAILURES_PER_NETWORK = env.integer("LOGIN_FAILURES_PER_NETWORK", 200, low=1, high=100_000)
LOGIN_COOLOFF = timedelta(minutes=env.integer("LOGIN_COOLOFF_MINUTES", 30, low=1, high=10080))
# Whose password alone is not enough: staff, and the holders of roles (accounts.roles).
SECOND_FACTOR_REQUIRED_FOR = env.choices(
    "SECOND_FACTOR_REQUIRED_FOR", ("staff", "Administrator", "Support", "Auditor", "Member")
)
SECOND_FACTOR_GRACE_DAYS = env.integer("SECOND_FACTOR_GRACE_DAYS", 14, low=0, high=365)
# What encrypts the secrets of authenticator apps; without it, what follows from SECRET_KEY.
SECOND_FACTOR_KEY = env.text("SECOND_FACTOR_KEY")
SECOND_FACTOR_KEY_FALLBACKS = env.words("SECOND_FACTOR_KEY_FALLBACKS")
env.require_random("SECOND_FACTOR_KEY", [SECOND_FACTOR_KEY] if SECOND_FACTOR_KEY else [])
env.require_random("SECOND_FACTOR_KEY_FALLBACKS", SECOND_FACTOR_KEY_FALLBACKS)

AXES_HANDLER = "accounts.lockout.ReservingHandler"
AXES_LOCKOUT_CALLABLE = "accounts.lockout.locked_out"
AXES_ENABLE_ADMIN = False  # its tables stay empty
AXES_VERBOSE = False

# --- Mail and background work ------------------------------------------------------------------------
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}}
MAIL_DIRECTORY = BASE_DIR / ".mail"
_email_url = env.text("EMAIL_URL")
if _email_url:
    try:
        _email = environ.Env.email_url_config(_email_url)
    except (KeyError, ValueError, environ.ImproperlyConfigured):
        env.fault("EMAIL_URL: must look like smtp+tls://user:password@mail.example.com:587.")
    else:
        globals().update(_email)
        if _email.get("EMAIL_HOST_PASSWORD") and not (_email.get("EMAIL_USE_TLS") or _email.get("EMAIL_USE_SSL")):
            env.fault("EMAIL_URL: a password travels encrypted only: smtp+tls:// or smtp+ssl:// instead of smtp://.")
        if "smtp" in _email["EMAIL_BACKEND"] and not _email.get("EMAIL_HOST"):
            env.fault("EMAIL_URL: must name a mail server, like smtp+tls://user:password@mail.example.com:587.")
elif DEVELOPMENT:
    EMAIL_BACKEND = "config.mail_preview.MailDirectoryBackend"
else:
    env.fault("EMAIL_URL: must be set outside development, like smtp+tls://user:password@host:587.")
EMAIL_TIMEOUT = env.integer("EMAIL_TIMEOUT", 10, low=1, high=120)
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", f"Gatehouse <no-reply@{_base.hostname or 'localhost'}>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- Logs --------------------------------------------------------------------------------------------
LOG_FORMAT = env.choice("LOG_FORMAT", ("json", "console"), "console" if DEVELOPMENT else "json")
LOG_LEVEL = env.choice("LOG_LEVEL", ("debug", "info", "warning", "error"), "info").upper()
LOGGING_CONFIG = None
logs.configure(LOG_FORMAT, LOG_LEVEL)

env.raise_faults()
ENVIRONMENT_VARIABLES = env.values
