"""The site's addresses and pages that leave out whose rows they want."""

from django.urls import path

from config import urls
from config.admin import GatehouseAdminSite
from tests.errands import views
from tests.errands.models import Errand

site = GatehouseAdminSite(name="errands")
site.register(Errand)

urlpatterns = [
    path("errands/", views.titles),
    path("errands/by-sql/", views.titles_by_sql),
    path("errands/fail/", views.fail),
    path("errands/stream/", views.stream),
    path("errands/async/", views.titles_in_async),
    path("errands/async-stream/", views.stream_in_async),
    path("errands/sign-in/", views.sign_in),
    path("errands/admin/", site.urls),
    *urls.urlpatterns,
]
handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500
