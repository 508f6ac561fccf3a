"""Seven hundred naughty strings and their like: all of them at the open doors, and shared among the pages behind them."""

# ruff: noqa: E501 - its tables have many to a line

from __future__ import annotations

import json
from typing import TypeVar
from urllib.parse import quote, urlencode

import pytest
from django.contrib import admin

from tests.live import LOGIN, SIGNUP
from tests.rulezero.forms import Form
from tests.rulezero.house import TOKEN, Answer, House, ask, told
from tests.rulezero.naughty import NAUGHTY, ONE_OF_EACH, SOME

T = TypeVar("T")
SHARDS = 4  # so that several processes share the work
SURROGATES = [b"%ED%A0%80", b"%ED%B0%80", b"a%ED%A0%BD%ED%B8%80b"]
BROKEN_UTF8 = [
    b"%FF",
    b"%FE%FF",
    b"%C0%80",
    b"%E2%82",
    b"%F8%88%80%80%80",
    b"%80",
    b"%C3%28",
    b"%F4%90%80%80",
    b"\xff\xfe",
]


def share(whole: list[T], number: int, *, of: int) -> list[T]:
    """One of so many parts of what is tried, for the form or page of this number; its neighbours get the others.

    Pages behind a sign-in are many, and what stands between them and a string is the same for all.
    """
    return whole[number % of :: of]


def faults_of(answer: Answer, what: object) -> list[str]:
    """What is wrong with the answer; a refused form must have left everything as it was."""
    faults = answer.faults()
    if answer.status not in (302, 303):
        # A refused login is counted: that is no change of what the form is about.
        faults += [f"{answer.asked}: {answer.status} wrote {each}" for each in answer.wrote]
    return [f"{fault} <- {what!r:.80}" for fault in faults]


def test_there_are_hundreds_of_strings_and_every_page_with_a_form_is_found(forms: list[Form]) -> None:
    assert len(NAUGHTY) >= 460
    found = {(form.action.partition("?")[0], name) for form in forms for name in form.fields}
    assert {
        ("/accounts/signup/", "full_name"),
        ("/accounts/invitation/", "username"),
        ("/accounts/invitations/", "emails"),
        ("/accounts/login/", "username"),
        ("/admin/login/", "password"),
        ("/accounts/password/reset/", "email"),
        ("/accounts/password/reset/MQ/set-password/".replace("MQ", _uid(forms)), "new_password2"),
        ("/accounts/verify/again/", "email"),
        ("/accounts/profile/", "bio"),
        ("/accounts/password/change/", "old_password"),
        ("/accounts/confirm/", "next"),
        ("/admin/accounts/user/add/", "username"),
        ("/admin/accounts/user/", "action"),
        ("/admin/auth/group/add/", "permissions"),
    } <= found
    assert any(form.action == "/accounts/verify/" for form in forms)


def _uid(forms: list[Form]) -> str:
    return next(form.action.split("/")[4] for form in forms if "set-password" in form.action)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_naughty_strings_in_all_fields_of_a_form_at_once(house: House, forms: list[Form], shard: int) -> None:
    faults: list[str] = []
    for number, form in enumerate(forms):
        if form.role == "stranger" and form.is_ours:
            # The doors that stand open to everybody get all of them, those that are made like them a tenth.
            strings = NAUGHTY if form.action in (SIGNUP, LOGIN) else share(NAUGHTY, number, of=10)
        else:
            strings = share(NAUGHTY, number, of=64) if form.is_ours else ONE_OF_EACH
        for string in strings[shard::SHARDS] if form.fields else []:
            faults += faults_of(form.send(house, dict.fromkeys(form.fields, string)), string)
    assert not faults, told(faults)


VALID = {
    "username": "anna",
    "email": "anna@example.com",
    "full_name": "Anna",
    "bio": "",
    "avatar_url": "",
    "password": "Correct-Horse-7-Battery",
    "old_password": "Correct-Horse-7-Battery",
    "new_password1": "Correct-Horse-8-Battery",
    "new_password2": "Correct-Horse-8-Battery",
}


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_naughty_string_in_one_field_of_a_form_that_is_right_otherwise(
    house: House, forms: list[Form], shard: int
) -> None:
    faults: list[str] = []
    for number, form in enumerate(forms[shard::SHARDS]):
        right = {name: VALID.get(name, value) for name, value in form.fields.items()}
        strings = share(SOME, number, of=4 if form.role == "stranger" else 24)
        for name in form.typed:
            for string in strings if form.is_ours else ONE_OF_EACH[::3]:
                faults += faults_of(form.send(house, {**right, name: string}), (name, string))
    assert not faults, told(faults)


def test_forms_of_every_wrong_shape(house: House, forms: list[Form]) -> None:
    faults: list[str] = []
    for number, form in enumerate(forms):
        shapes = _wrong_shapes(form)
        for what, body, kind in shapes if form.role == "stranger" else share(shapes, number, of=8):
            faults += faults_of(form.send_body(house, body, content_type=kind), what)
    assert not faults, told(faults)


_FORM = "application/x-www-form-urlencoded"


def _wrong_shapes(form: Form) -> list[tuple[str, bytes, str]]:
    right = {name: VALID.get(name, value) for name, value in form.fields.items()}
    plain = urlencode(right).encode()
    shapes = [
        ("nothing", b"", _FORM),
        ("separators", b"&&&==&=&a=&=b&%&%%&;", _FORM),
        ("lists", urlencode({f"{name}[]": "a" for name in right}).encode(), _FORM),
        ("deep", urlencode({f"{name}[a][b]": "a" for name in right}).encode(), _FORM),
        ("twice", plain + b"&" + plain, _FORM),
        ("no value", "&".join(right).encode(), _FORM),
        ("too many", b"a=b&" * 3_000, _FORM),
        ("extra", plain + b"&" + urlencode({"__class__": "x", "self": "x", "_state": "x", "\0": "\0"}).encode(), _FORM),
        ("json", json.dumps(right).encode(), "application/json"),
        ("json as form", json.dumps(right).encode(), _FORM),
        ("xml", b"<a/>", "text/xml"),
        ("binary", bytes(range(256)), "application/octet-stream"),
        ("bytes", bytes(range(256)), _FORM),
        ("no kind", plain, ""),
        ("odd kind", plain, "a/b; charset=utf-8; charset=utf-8; x"),
        ("latin-1", plain, f"{_FORM}; charset=latin-1"),
        ("utf-7", plain, f"{_FORM}; charset=utf-7"),
        ("hex", plain, f"{_FORM}; charset=hex"),
        ("undefined", plain, f"{_FORM}; charset=undefined"),
    ]
    for name in form.typed:
        others = {other: value for other, value in right.items() if other != name}
        before = urlencode(others).encode() + b"&" + quote(name).encode() + b"="
        shapes += [(f"{name} missing", urlencode(others).encode(), _FORM)]
        odds = [*SURROGATES, *BROKEN_UTF8, b"%00"] if form.is_ours else [SURROGATES[0], b"%FF%00"]
        shapes += [(f"{name} {odd!r}", before + odd, _FORM) for odd in odds]
    # Long ones once a form: refused for strangers, and for those signed in a matter of the field.
    shapes += [("long", plain + b"&" + next(iter(right), "a").encode() + b"=" + b"a" * 900_000, _FORM)]
    return shapes + _multipart(list(right))


def _multipart(names: list[str]) -> list[tuple[str, bytes, str]]:
    kind = "multipart/form-data; boundary=edge"

    def part(name: str, more: str = "", headers: str = "") -> bytes:
        return f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n{headers}\r\nx\r\n'.encode()

    end = b"--edge--\r\n"
    whole = b"".join(map(part, names)) + end
    return [
        ("files", b"".join(part(name, '; filename="a.txt"') for name in names) + end, kind),
        ("odd file names", b"".join(part(name, "; filename*=hex''%00; filename=\"..\\0\"") for name in names) + end, kind),
        ("files of no name", b"".join(part(name, '; filename=""') for name in names) + end, kind),
        ("base64", b"".join(part(name, "", "Content-Transfer-Encoding: base64\r\n") for name in names) + end, kind),
        ("parts in hex", b"".join(part(name, "", "Content-Type: text/plain; charset=hex\r\n") for name in names) + end, kind),
        ("no end", whole[: -len(end)], kind),
        ("half", whole[: len(whole) // 2], kind),
        ("no edge", whole, "multipart/form-data"),
        ("another edge", whole, "multipart/form-data; boundary=other"),
        ("an endless edge", whole, f"multipart/form-data; boundary={'e' * 240}"),
        ("an odd edge", whole, 'multipart/form-data; boundary="\xe9"'),
        ("no name", part("").replace(b' name=""', b"") + end, kind),
        ("many parts", part("a") * 1_100 + end, kind),
        ("many files", part("a", '; filename="a"') * 110 + end, kind),
        ("parts in parts", whole.replace(b"\r\n\r\nx", b"\r\nContent-Type: multipart/mixed; boundary=e\r\n\r\n--e\r\n"), kind),
        ("not multipart", b"a=b", kind),
    ]  # fmt: skip


# What admin lists read from their address, beside their own filters.
LIST_ODDITIES = [
    *("o=99", "o=-1", "o=a", "o=1.2.3", "o=--1", "o=", "o=1&o=2", "p=0", "p=-1", "p=99999999999999999999", "p=a", "p=", "p=%F0%9F%98%80"),
    *("e=1", "all=", "all=1", "_popup=1", "_popup=x", "_to_field=id", "_to_field=password", "_to_field=%00", "_facets=1", "_source_model=x"),
    *("pk=x", "id=x", "id__in=1,x", "id__in=", "pk__isnull=maybe", "password__startswith=b", "password__regex=[", "x=1", "x__y__z=1", "__=1"),
    *("_changelist_filters=%00", "_changelist_filters=a%26b%3D%5B", "q=a&q=b", "q=" + "a%20" * 900, "q=" + "%22" * 500, "q=a%00", "&&&", "=&=", "%"),
]  # fmt: skip
LOOKUPS = ("", "__exact", "__iexact", "__in", "__gt", "__gte", "__lt", "__isnull", "__range", "__year", "__month", "__day", "__week_day", "__date", "__regex", "__iregex", "__contains", "__id__exact", "__password__regex")  # fmt: skip
ODD_VALUES = (
    "",
    "%00",
    "[",
    "x",
    "-1",
    "0",
    "99999999999",
    "1,2",
    "2024-13-45",
    "9999-12-31",
    "None",
    "True",
    "%F0%9F%99%88",
    "%FF",
    "'",
    "1e400",
)


def lists() -> list[str]:
    return [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry]


def test_naughty_searches_in_every_list_of_the_admin(house: House) -> None:
    faults: list[str] = []
    for number, place in enumerate(lists()):
        # More where the search is ours than where it is Django's.
        for string in share(NAUGHTY, number, of=16) if "accounts" in place else ONE_OF_EACH:
            if len(string) < 1500:
                answer = ask(house.browser("keeper"), "GET", place, QUERY_STRING=urlencode({"q": string}))
                faults += faults_of(answer, string)
    assert not faults, told(faults)


def test_naughty_filters_in_every_list_of_the_admin(house: House) -> None:
    faults: list[str] = []
    for number, model in enumerate(admin.site._registry):
        place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        names = [field.name for field in model._meta.get_fields()][:40]
        offered = [each for each in admin.site._registry[model].list_filter if isinstance(each, str)]
        pairs = {(lookup, value) for lookup in LOOKUPS for value in ODD_VALUES[:4]}
        pairs |= {(lookup, value) for lookup in LOOKUPS[:4] for value in ODD_VALUES}
        queries = [f"{name}{lookup}={value}" for name in offered for lookup, value in sorted(pairs)]
        queries += [f"{name}{lookup}=%00" for name in names for lookup in ("__year", "__regex", "__isnull", "__in")]
        for query in [*share(LIST_ODDITIES, number, of=3), *share(queries, number, of=5)]:
            faults += faults_of(ask(house.browser("keeper"), "GET", place, QUERY_STRING=query), query)
    assert not faults, told(faults)


def test_naughty_autocompletes(house: House) -> None:
    faults: list[str] = []
    right = {"app_label": "accounts", "model_name": "user", "field_name": "groups", "term": "a"}
    for string in ONE_OF_EACH:
        for name in right:
            query = urlencode({**right, name: string})
            faults += faults_of(ask(house.browser("keeper"), "GET", "/admin/autocomplete/", QUERY_STRING=query), query)
    assert not faults, told(faults)


def test_naughty_query_strings_and_paths_on_every_page(house: House) -> None:
    faults: list[str] = []
    for number, door in enumerate(house.doors):
        if door.route.startswith("admin/") and "user" not in door.route:
            continue
        for string in share(ONE_OF_EACH, number, of=6):
            typed = quote(string[:500], safe="", errors="surrogatepass")
            for path, query in ((door.paths[0], f"next={typed}&{typed}"), (f"{door.paths[0]}{typed}", "")):
                faults += faults_of(ask(house.browser("keeper"), "GET", path, QUERY_STRING=query), string)
    assert not faults, told(faults)


COOKIES = [
    "",
    "x",
    '""',
    '"a\\000b"',
    "a" * 3000,
    "{}",
    "[[1,2]]",
    "a:b:c",
    "é",
    "'",
    "=",
    ";",
    "a,b",
    "\x01",
    "../..",
    "None",
    "%00",
    "🙈",
]
HEADERS = {
    "HTTP_HOST": ["", "evil.example", "testserver:1", "testserver:x", "testserver.", "TESTSERVER", "a" * 300, "[::1", "a b", "é", "\0", "@testserver", "127.0.0.1:8000@evil"],
    "HTTP_X_FORWARDED_HOST": ["evil.example", "\0", "a, b"],
    "HTTP_X_FORWARDED_FOR": ["", ",", "1.2.3.4", "::1", "x" * 3000, "1.2.3.4, \0", "fe80::1%eth0", "::ffff:1.2.3.4", "1.2.3.4:80", "unknown", "1" * 40, "é", "127.0.0.1\n", "999.1.1.1"],
    "HTTP_X_FORWARDED_PROTO": ["https", "http", "x", "https,http", "\0"],
    "HTTP_X_REQUEST_ID": ["\0", "x" * 5000, "a\nb", "<b>"],
    "HTTP_USER_AGENT": ["\0", "a\0b", "x" * 5000, "é", "\xff\xfe", "{{ x }}", "<script>", "\x1b[31m", "%s%n", "🙈".encode().decode("latin-1")],
    "HTTP_ACCEPT": ["\0", "x" * 5000, "*/*;q=x", ";;;", "text/html;q=1e999", "é"],
    "HTTP_ACCEPT_LANGUAGE": ["\0", "x" * 5000, "de;q=x", "-", "a-" * 300, "*", "zh-hant-é", "../../etc"],
    "HTTP_REFERER": ["\0", "http://[", "x" * 5000, "//", "https://evil.example/"],
    "HTTP_ORIGIN": ["\0", "http://[", "x", "null", "http://testserver:99999"],
    "HTTP_IF_MODIFIED_SINCE": ["\0", "x", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Foo 99999 99:99:99 GMT"],
    "HTTP_IF_NONE_MATCH": ["*", '"', "W/", "\0"],
    "HTTP_RANGE": ["bytes=0-", "bytes=a-b", "bytes=-1", "bytes=5-1", "\0", "bytes=" + "0-1," * 500],
    "HTTP_X_CSRFTOKEN": ["\0", "é", "x" * 5000],
    "HTTP_EXPECT": ["100-continue", "x"],
    "HTTP_CONNECTION": ["upgrade", "close, x"],
    "HTTP_AUTHORIZATION": ["Basic", "Basic %", "Bearer \0", "Digest x"],
    "HTTP_X_HTTP_METHOD_OVERRIDE": ["DELETE", "\0"],
    "HTTP_COOKIE": ["", ";", "=", ";;==;", "a=b" * 1000, "sessionid", '"', "sessionid=a; sessionid=b", "\0", "é=é", "a=\"\\\"", "; ".join(f"c{n}=1" for n in range(500))],
    "REMOTE_ADDR": ["", "unix:", "\0", "::1", "fe80::1%1"],
    "CONTENT_LENGTH": ["-1", "x", "9" * 30, "1.5"],
    "CONTENT_TYPE": ["", "x", "\0", "a/b; c*=hex''x", "text/plain; charset=hex"],
    "SERVER_NAME": ["x"],
}  # fmt: skip
FORWARDED = {
    name: values for name, values in HEADERS.items() if name.startswith("HTTP_X_FORWARDED") or name == "REMOTE_ADDR"
}
PAGES = [
    "/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/profile/",
    "/admin/",
    "/static/site/favicon.svg",
    "/nowhere/",
]


@pytest.mark.parametrize("proxies", [0, 1])
def test_naughty_headers_on_pages_and_at_the_doors(house: House, settings: object, proxies: int) -> None:
    settings.TRUSTED_PROXIES = proxies  # type: ignore[attr-defined]
    faults: list[str] = []
    tried = {"username": "member", "password": "wrong", "email": "a@example.com"}
    # What a proxy says is the only thing that is read otherwise behind one.
    for name, values in HEADERS.items() if not proxies else FORWARDED.items():
        for value in values:
            asked = [ask(house.browser("keeper"), "GET", page, **{name: value}) for page in PAGES]
            body = urlencode(tried).encode()
            request = {"content_type": _FORM, "HTTP_X_CSRFTOKEN": TOKEN, name: value}
            doors = ("/accounts/login/", "/admin/login/", "/accounts/signup/", "/accounts/password/reset/")
            asked += [ask(house.browser("stranger"), "POST", door, data=body, **request) for door in doors]
            faults += [fault for answer in asked for fault in faults_of(answer, (name, value))]
    assert not faults, told(faults)


def test_forged_cookies_on_pages_and_at_the_doors(house: House) -> None:
    faults: list[str] = []
    for name in ("sessionid", "csrftoken", "messages", "device", "django_language", "anything", "__Host-sessionid"):
        for value in COOKIES:
            forged = {"HTTP_COOKIE": f"{name}={value}".encode().decode("latin-1")}
            asked = [ask(house.browser("stranger"), "GET", page, **forged) for page in PAGES]
            asked += [ask(house.browser("stranger"), "POST", "/accounts/login/", HTTP_X_CSRFTOKEN=TOKEN, **forged)]
            faults += [fault for answer in asked for fault in faults_of(answer, (name, value))]
    assert not faults, told(faults)
