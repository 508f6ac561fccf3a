"""The site's addresses and the pages of this app, for tests that ask for them."""

from django.urls import path

from config import urls
from tests.hostapp import views

urlpatterns = [
    path("host/rename/", views.rename),
    path("host/rename-and-fail/", views.rename_and_fail),
    path("host/sign-in-and-rename/", views.sign_in_and_rename),
    path("host/rename-for-somebody/", views.rename_for_somebody),
    path("host/rename-in-async/", views.rename_in_async),
    *urls.urlpatterns,
]
handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500
