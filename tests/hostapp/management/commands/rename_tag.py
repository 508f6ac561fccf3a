from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tests.hostapp.models import Tag


class Command(BaseCommand):
    help = "Renames the first tag."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        Tag.objects.filter(pk=1).update(name=name)
