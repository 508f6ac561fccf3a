"""The forms that a page shows, as a browser would send them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

from django.test import Client

from tests.rulezero.house import Answer, House, ask, post

_NOT_TYPED = ("csrfmiddlewaretoken",)


@dataclass
class Form:
    """One form on a page: where it goes, and its fields with what they hold."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    role: str = "stranger"
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Not made by Django's admin, whose forms are many, slow and alike."""
        return not self.action.startswith("/admin/") or "login" in self.action

    @property
    def typed(self) -> list[str]:
        """The fields less the admin's buttons."""
        return [name for name in self.fields if not name.startswith("_")]

    def send(self, house: House, fields: dict[str, str] | list[tuple[str, str]]) -> Answer:
        return self.send_body(house, urlencode(fields, errors="surrogatepass").encode())

    def send_body(self, house: House, body: bytes, **request: str) -> Answer:
        return post(self.browser(house), self.action, body, **request)

    def browser(self, house: House) -> Client:
        browser = house.browser(self.role)
        for name, value in self.cookies.items():
            browser.cookies[name] = value
        return browser


class _Reader(HTMLParser):
    def __init__(self, page: str, path: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._path = path
        self._choice = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            action = given.get("action") or self._path
            self.forms.append(Form(action, given.get("method", "get").lower()))
        elif tag in ("input", "textarea", "select", "button") and self.forms and given.get("name"):
            self._add(tag, given)
        elif tag == "option" and self._choice and "selected" in given:
            self.forms[-1].fields[self._choice] = given.get("value", "")

    def _add(self, tag: str, given: dict[str, str]) -> None:
        self._choice = given["name"] if tag == "select" else ""
        if given["name"] not in _NOT_TYPED:
            self.forms[-1].fields.setdefault(given["name"], given.get("value", ""))


def find_forms(house: House) -> list[Form]:
    """Every form that posts, on every page that anybody can open; one of each kind."""
    found: dict[tuple[str, ...], Form] = {}
    for role in ("stranger", "member", "keeper"):
        for door in house.doors:
            for form in _forms_behind(house, role, door.paths[0]):
                # The sign-in form stands before every page of the admin; it is one form.
                found.setdefault((form.action.partition("?")[0], *sorted(form.fields)), form)
    return list(found.values())


def _forms_behind(house: House, role: str, path: str) -> list[Form]:
    browser = house.browser(role)
    answer = ask(browser, "GET", path)
    if answer.status in (301, 302, 303):
        # A link with a token puts it into a session of its own, which has to last.
        moved = browser.get(path, follow=True)
        path, page = moved.request["PATH_INFO"], moved.content.decode()
    else:
        page = answer.text
    forms = [form for form in _Reader(page, path).forms if form.method == "post"]
    for form in forms:
        form.role = role
        form.cookies = {name: morsel.value for name, morsel in browser.cookies.items()}
        form.action = form.action.partition("#")[0]
    return forms
