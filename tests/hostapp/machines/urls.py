from django.urls import path

from tests.hostapp.machines import views

app_name = "machines"
urlpatterns = [
    path("", views.machine_list, name="list"),
    path("<int:machine_id>/move/", views.move, name="move"),
]
