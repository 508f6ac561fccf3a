"""Registered in tests only, as the whole app is."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tests.hostapp.models import Tag


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin[Tag]):
    actions = ["shout"]

    @admin.action(description="Write in capitals")
    def shout(self, request: HttpRequest, queryset: QuerySet[Tag]) -> None:
        for tag in queryset:
            tag.name = tag.name.upper()
            tag.save()
