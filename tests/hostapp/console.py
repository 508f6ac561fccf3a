"""An admin site of the tests' own, so that the project's has only what the project has."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from config.admin import GatehouseAdminSite
from tests.hostapp.models import Tag

site = GatehouseAdminSite(name="host")


@admin.register(Tag, site=site)
class TagAdmin(admin.ModelAdmin[Tag]):
    actions = ["shout"]

    @admin.action(description="Write in capitals")
    def shout(self, request: HttpRequest, queryset: QuerySet[Tag]) -> None:
        for tag in queryset:
            tag.name = tag.name.upper()
            tag.save()
