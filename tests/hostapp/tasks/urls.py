from django.urls import path

from tests.hostapp.tasks import views

app_name = "tasks"
urlpatterns = [
    path("", views.task_list, name="list"),
    path("add/", views.add_task, name="add"),
    path("change/", views.change_tasks, name="change"),
    path("<int:task_id>/", views.edit_task, name="edit"),
]
