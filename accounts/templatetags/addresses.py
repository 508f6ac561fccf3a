"""E-mail addresses in headings, where lines are short."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def breakable(address: str) -> SafeString:
    """`address` as HTML that moves to the next line as a whole, and breaks first of all before its last "@"."""
    name, at, domain = address.rpartition("@")
    return format_html('<bdi class="whole">{}<wbr>{}{}</bdi>', name, at, domain)
