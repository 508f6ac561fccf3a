"""Every address of the site."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from accounts.views import home
from config import mail_preview, style_guide

urlpatterns = [
    path("", home, name="home"),
    path("accounts/", include("accounts.urls")),
    path("admin/", admin.site.urls),
    path("", include("healthcheck.urls")),
]
if settings.DEVELOPMENT:
    urlpatterns += [
        path("dev/mail/", mail_preview.mail_list, name="mail_preview"),
        path("dev/mail/<str:name>/", mail_preview.mail_detail, name="mail_detail"),
        path("dev/mail/<str:name>/html/", mail_preview.mail_html, name="mail_html"),
        path("dev/style/", style_guide.style_guide, name="style_guide"),
    ]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
