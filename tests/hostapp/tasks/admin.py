from django.contrib import admin

from config.admin import LargeTableAdmin
from config.editing import VersionedAdmin
from tests.hostapp.tasks.models import Task


@admin.register(Task)
class TaskAdmin(VersionedAdmin, LargeTableAdmin):
    fields = ["title", "text", "priority", "due"]
    list_display = ["title", "owner", "priority", "due", "completed_at"]
    list_filter = ["priority"]
    list_select_related = ["owner"]
