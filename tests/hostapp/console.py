"""An admin site of the tests' own, so that the project's has only what the project has."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from config.admin import GatehouseAdminSite, LargeTableAdmin
from config.editing import VersionedAdmin, VersionedInline
from tests.hostapp.models import Comment, Note, Tag

site = GatehouseAdminSite(name="host")


def take_over(*apps: str) -> None:
    """Move the pages of these apps here from the project's site, where their `admin` modules have put them."""
    for model, model_admin in list(admin.site._registry.items()):
        if model._meta.app_label in apps:
            admin.site.unregister(model)
            site.register(model, type(model_admin))


class CommentInline(VersionedInline, admin.TabularInline[Comment, Note]):
    model = Comment
    extra = 1


@admin.register(Note, site=site)
class NoteAdmin(VersionedAdmin, LargeTableAdmin):
    fields = ["title", "text", "tags"]
    inlines = [CommentInline]


@admin.register(Tag, site=site)
class TagAdmin(admin.ModelAdmin[Tag]):
    actions = ["shout"]

    @admin.action(description="Write in capitals")
    def shout(self, request: HttpRequest, queryset: QuerySet[Tag]) -> None:
        for tag in queryset:
            tag.name = tag.name.upper()
            tag.save()
