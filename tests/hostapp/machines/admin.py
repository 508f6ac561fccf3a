from django.contrib import admin

from config.admin import LargeTableAdmin
from config.editing import VersionedAdmin
from tests.hostapp.machines.models import Machine


@admin.register(Machine)
class MachineAdmin(VersionedAdmin, LargeTableAdmin):
    fields = ["name", "price"]
    list_display = ["name", "owner", "state", "price"]
    list_filter = ["state"]
    list_select_related = ["owner"]
