from django.contrib import admin

from config.admin import LargeTableAdmin
from tests.hostapp.queries.models import Query


@admin.register(Query)
class QueryAdmin(LargeTableAdmin):
    list_display = ["at", "owner", "kind", "status", "milliseconds"]
    list_filter = ["kind", "status"]
    list_select_related = ["owner"]
