"""A minimal browser on the standard library: keeps cookies, fills forms. For rehearsals and tests."""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode

_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class NoForm(Exception):
    """The page is not the form that was looked for; the message names it and its status."""


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str
    seconds: float

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")


@dataclass
class Browser:
    """One person's browser, for one thread. `headers` go with every request, `timeout` is in seconds.

    Every request raises OSError or http.client.HTTPException when the connection is refused or lost.
    """

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    timeout: float = 120
    host: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)
    connect: type[http.client.HTTPConnection] = http.client.HTTPConnection

    def request(
        self, method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = self.connect(self.host, self.port, timeout=self.timeout)
        started = time.monotonic()
        try:
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request(method, path, body, {"Cookie": cookie} | self.headers | (headers or {}))
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            for header in response.headers.get_all("Set-Cookie") or []:
                self._keep(SimpleCookie(header))
            return Answer(response.status, response.headers, text, time.monotonic() - started)
        finally:
            connection.close()

    def _keep(self, cookies: SimpleCookie) -> None:
        for name, morsel in cookies.items():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, fields: dict[str, str]) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, urlencode(fields), headers)

    def open_form(self, path: str) -> dict[str, str]:
        """Load a page and return the hidden field of its form; raises NoForm."""
        page = self.get(path)
        token = _TOKEN.search(page.body)
        if page.status != 200 or not token:
            raise NoForm(f"{path} answered {page.status}")
        return {"csrfmiddlewaretoken": token[1]}
