from django.urls import path

from tests.hostapp.queries import views

app_name = "queries"
urlpatterns = [path("", views.query_list, name="list")]
