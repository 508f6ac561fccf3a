"""Model admins load Django's jQuery where something needs it, and keep every script of their own."""

from __future__ import annotations

from typing import Any

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client

from config.admin import GatehouseAdminSite
from tests.factories import UserFactory

JQUERY = "admin/js/vendor/jquery/jquery.min.js"


class Plain(admin.ModelAdmin[Any]):
    pass


class WithMedia(admin.ModelAdmin[Any]):
    class Media:
        js = ["own.js"]
        css = {"all": ["own.css"]}


class WithInheritedMedia(WithMedia):
    class Media:
        js = ["more.js"]


class WithProperty(admin.ModelAdmin[Any]):
    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(js=["own.js"])


class WithJquery(admin.ModelAdmin[Any]):
    class Media:
        js = ["admin/js/jquery.init.js", "own.js"]


def scripts_of(model_admin: type[admin.ModelAdmin[Any]]) -> list[str]:
    site = GatehouseAdminSite(name="scripts")
    site.register(Group, model_admin)
    return [str(script) for script in site._registry[Group].media._js]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model_admin", "own"),
    [(Plain, []), (WithMedia, ["own.js"]), (WithInheritedMedia, ["own.js", "more.js"]), (WithProperty, ["own.js"])],
)
def test_scripts_of_an_admins_own_stay_and_jquery_does_not_come(
    model_admin: type[admin.ModelAdmin[Any]], own: list[str]
) -> None:
    scripts = scripts_of(model_admin)
    assert sorted(scripts) == sorted(["admin/js/core.js", "admin/js/actions.js", *own])


def test_a_style_sheet_of_its_own_stays() -> None:
    site = GatehouseAdminSite(name="scripts")
    site.register(Group, WithMedia)
    assert site._registry[Group].media._css == {"all": ["own.css"]}  # type: ignore[attr-defined]


def test_who_names_jquery_gets_it_in_front() -> None:
    scripts = scripts_of(WithJquery)
    assert scripts.index(JQUERY) < scripts.index("admin/js/jquery.init.js") < scripts.index("own.js")


@pytest.fixture
def keeper(db: None) -> Client:
    browser = Client()
    keeper = UserFactory.create(is_staff=True, is_superuser=True)
    browser.force_login(keeper, "accounts.backends.IdentityBackend")
    return browser


@pytest.mark.parametrize(("address", "needs"), [("", False), ("?_popup=1", True), ("add/", False)])
def test_a_window_and_nothing_else_has_what_fills_in_the_field_of_another(
    keeper: Client, address: str, needs: bool
) -> None:
    page = keeper.get(f"/admin/auth/group/{address}").content.decode()
    assert ("RelatedObjectLookups" in page, "jquery" in page) == (needs, needs)
    assert "prepopulate_init" not in page


def test_rows_of_other_models_in_a_form_bring_all_of_it(keeper: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memberships(admin.TabularInline[Any, Any]):
        model = admin.site._registry[Group].model.user_set.through
        raw_id_fields = ["user"]

    monkeypatch.setattr(type(admin.site._registry[Group]), "inlines", [Memberships])
    page = keeper.get("/admin/auth/group/add/").content.decode()
    assert all(script in page for script in ("jquery", "RelatedObjectLookups", "inlines", "prepopulate"))
