"""Strings that have broken programs: our own collection, by the layer that they are meant to break.

None holds the words that `house` looks for in answers, since pages show again what was typed.
"""

# ruff: noqa: E501 - a table, many to a line

from __future__ import annotations

import unicodedata

_C0 = [chr(code) for code in range(0x20) if code != 0]
_C1 = [chr(code) for code in range(0x7F, 0xA0)]
_INVISIBLE = [character for character in map(chr, range(0x10000)) if unicodedata.category(character) == "Cf"]
_SPACES = [character for character in map(chr, range(0x10000)) if unicodedata.category(character) in ("Zs", "Zl", "Zp")]
_NONCHARACTERS = [*map(chr, range(0xFDD0, 0xFDF0)), *(chr(plane << 16 | 0xFFFE) for plane in range(17)), "\U0010ffff"]
_MARKS = "".join(map(chr, range(0x300, 0x370)))

CLASSES: dict[str, list[str]] = {
    "NUL": ["\0", "a\0b", "admin\0", "\0" * 100, "%00", "\\0", "\\x00", "\\u0000", "&#0;", "\u2400"],
    "control characters": [f"a{character}b" for character in [*_C0, *_C1]],
    "line ends": ["a\r\nb", "a\r\n\r\n<b>", "a\nSet-Cookie: x=y", "\r", "\n" * 500, "a%0d%0ab", "a\u2028b", "a\u2029b"],
    "invisible characters": [f"a{character}b" for character in _INVISIBLE],
    "spaces": [*_SPACES, " ", "   ", "\t \t", " leading", "trailing ", "a  b"],
    "noncharacters": _NONCHARACTERS,
    "byte order marks": ["\ufeff", "\ufeffadmin", "\ufffe", "\ufffd", "\ufffc", "\xef\xbb\xbf"],
    "direction": ["\u202ecod.exe", "\u2066a\u2067b\u2069", "\u200fadmin\u200e", "שלום hello مرحبا", "ﷺ", "ﷺ" * 100],
    "combining marks": ["Z" + _MARKS, ("Z" + _MARKS[:30]) * 20, _MARKS, "\u0301", "e\u0301", "\u1ec7", "ạ̈́", "ก็็็็็็็็็็"],
    "emoji": ["😍", "👩🏽‍🚒", "👨‍👩‍👧‍👦", "🇦🇶", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "0️⃣1️⃣", "✋🏿✋🏻", "❤️", "🙈" * 200, "\U0001f3fb", "🫠", "☃"],
    "beyond the basic plane": ["𝓪𝓭𝓶𝓲𝓷", "𐐀𐐨", "𠜎𠜱", "𝟘𝟙", "𓀀", "\U000e0041\U000e0042", "\U000f0000", "\U0010fffd"],
    "scripts": ["Ωμέγα", "Привет", "你好", "こんにちは", "한국어", "ไทย", "हिन्दी", "ქართული", "አማርኛ", "ᚠᚢᚦ", "ᏣᎳᎩ", "ʇɥƃıɹ"],
    "case that does not return": ["ß", "ẞ", "ı", "İ", "ſ", "K", "ﬃ", "ŉ", "ǰ", "ΐ", "ς", "ǆ", "ǅ", "Ⱥ", "ᲀ", "ꭰ", "ﬆ", "ύ"],
    "look-alikes": ["аdmin", "раураl", "ɑdmin", "admⅰn", "ａｄｍｉｎ", "①②③", "ᴀᴅᴍɪɴ", "0O1lI", "rn", "‚‛", "／", "．", "＠", "：", "＇", "＂"],
    "marks": [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "…", "–", "“”", "¿", "§", "‰", "⁄", "′", "`´", "''", '""', "\\\\"],
    "nothing": ["null", "NULL", "None", "nil", "undefined", "undef", "NaN", "void", "(null)", "[]", "{}", "()", "false", "true"],
    "numbers": [
        *("0", "1", "-1", "00", "007", "0x0", "0xffffffff", "0b1", "0o7", "1.0", "1.", ".5", "-.1", "1,000", "1 000", "1_000"),
        *("1e3", "1E400", "-1e-400", "inf", "-Infinity", "+0", "-0", "--1", "1/0", "1/2", "3.14159265358979323846", "NaN(1)"),
        *("2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "18446744073709551616"),
        *("9" * 100, "9" * 4300, "9" * 5000, "-" + "9" * 400, "1" + "0" * 308, "٠١٢", "१२३", "Ⅷ", "½", "²", "1٫5", "$1", "1%", "1px"),
    ],
    "ids": [
        *("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "{" + "0" * 32 + "}", "0" * 32, "0" * 31),
        *("urn:uuid:00000000-0000-0000-0000-000000000000", "g" * 32, "1;2", "1,2,3", "_00", "_2F", "_ZZ", "__", "_"),
    ],
    "dates": [
        *("0000-00-00", "0001-01-01", "9999-12-31", "10000-01-01", "-0001-01-01", "2023-02-30", "2024-02-29", "24:00", "23:59:60"),
        *("1970-01-01T00:00:00Z", "2038-01-19 03:14:08", "0001-01-01 00:00+14:00", "9999-12-31 23:59-12:00", "now", "infinity"),
        *("epoch", "today", "2024-W01-1", "99999999999", "-99999999999", "1.5e10"),
    ],
    "names of parts": [
        *("__class__", "__proto__", "constructor", "prototype", "__dict__", "self", "this", "pk", "id", "objects", "_state", "con"),
        *("CON", "PRN", "AUX", "NUL", "COM1", "LPT1", "root", "admin", "https://", "www", "localhost", "example.com", "default"),
    ],
    "sql": [
        *("'", "''", "' or '1'='1", "1' or 1=1 --", "'; drop table accounts_user; --", '"; drop table x', "1; select pg_sleep(5)"),
        *("' || pg_sleep(5) || '", "') or ('a'='a", "\\'", "\\' or 1=1 --", "%' or '%'='", "%", "_%_", "%s", "%(name)s", "$1", ":name"),
        *("/* */", "--", "#", "1 union select null", "$$x$$", "e'\\000'", "u&'\\0000'", "x'00'", "::int", "current_user", "*", "%%"),
    ],
    "script": [
        *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "javascript:alert(1)", "</textarea>"),
        *('"><b>', "'><b>", "</title>", "<!--", "-->", "]]>", "<![CDATA[", "&lt;b&gt;", "&amp;", "&#x3c;b&#x3e;", "&notanentity;", "<b"),
        *("<a href='data:text/html,x'>", "<iframe srcdoc='x'>", "\" onfocus=alert(1) autofocus x=\"", "<style>*{}</style>", "\\u003cb\\u003e"),
        *("<scr\0ipt>", "<ſcript>", "＜script＞", "<math><mi//xlink:href='data:x'>", "<base href='//evil.example/'>", "<meta http-equiv=refresh>"),
    ],
    "templates": [
        *("{{ 7*7 }}", "{% debug %}", "{% load x %}", "{# x #}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{{ settings.SECRET_KEY }}", "{{", "}}"),
        *("{% csrf_token %}", "[[7*7]]", "@(7*7)", "{0}", "{}", "{0.__class__}", "{!r}", "{:>999999}", "{", "}", "%(x)", "%n%n", "%99999d"),
    ],
    "commands": [
        *("; ls", "| id", "&& id", "$(id)", "`id`", "> /tmp/x", "-rf", "--help", "-", "() { :; }; id", "a\nid", "%COMSPEC%", "$HOME", "~", "~root"),
        *("${IFS}", "!!", "*.*", "?"),
    ],
    "paths": [
        *("/", "//", "../", "../../../../etc/passwd", "..\\..\\windows\\win.ini", "....//", "%2e%2e%2f", "..%c0%af", "/etc/passwd", "/dev/zero"),
        *("file:///etc/passwd", "C:\\", "\\\\server\\share", ".", "..", "...", ".htaccess", ".git/config", "/proc/self/environ", "a/b", "a\\b"),
    ],
    "addresses": [
        *("//evil.example", "https://evil.example", "http:evil", "/\\evil.example", "\\/evil", "https:///x", "http://[::1", "http://[v1.x]", "http://a b"),
        *("http://a@b@c", "ftp://x", "data:,x", "vbscript:x", "tel:1", "http://xn--", "http://1.1.1.1:99999", "http://é.example", "///", "http://"),
        *("http://\u2100.example", "http://a\u3002b", "HTTP://EXAMPLE.COM", "http://127.1", "http://0x7f000001", "http://a/\u202e", "?x", "#x"),
    ],
    "mail addresses": [
        *("@", "a@", "@b", "a@b", "a@b@c", "a@b..c", ".a@b.c", "a..b@c.d", '"a b"@c.de', "a@[127.0.0.1]", "a@[::1]", "a@-b.de", "a@b_c.de"),
        *("a@xn--a.de", "a@é.de", "é@b.de", "a@b.de\n", "a@b.de\r\nBcc: c@d.de", "a@b.de, c@d.de", "<a@b.de>", "A <a@b.de>", "a+b@c.de"),
        *("a" * 64 + "@b.de", "a" * 65 + "@b.de", "a@" + "b" * 63 + ".de", "a@" + "b" * 64 + ".de", "a@" + "b." * 125 + "de", "a@b." + "c" * 300),
        *("ı@b.de", "ſ@b.de", "K@b.de", "a@ß.de", "a@\u2100.de", "a@b\u3002de", "a@\u200d.de", "a(b)@c.de", "a@b.de.", "a%b@c.de", "a!b@c"),
    ],
    "spreadsheets": ["=1+1", "+1+1", "-1+1", "@sum(1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", '=hyperlink("x")', ",", ";", '","'],
    "markup of other kinds": [
        *('<?xml version="1.0"?>', '<!DOCTYPE x [<!ENTITY y "z">]>', '{"a": 1}', '{"a":', "[1,2", '"', "a: b", "- a", "!!python/none", "gASVAA=="),
        *("\\u0000", "\\ud800", "\\x", "\\", "%ZZ", "%", "%u0000", "%F0%9F%98%80", "=?utf-8?q?x?=", "=?utf-8?b?AA==?=", "(((((((((((", "[" * 500),
    ],
    "patterns": ["(", "[", "*", "+", "?", "a{1,99999}", "(a+)+$", "a" * 40 + "!", "(?P<x>", "\\1", "^", "$", ".*", "[[:alpha:]]", "\\Q", "[^]"],
    "log lines": ['{"event": "login.succeeded"}', "\x1b[31mred\x1b[0m", "a\x08\x08b", "\x1b]0;title\x07", "\x9b31m", 'level="error"'],
    "lengths": ["a" * length for length in (63, 64, 65, 149, 150, 151, 254, 255, 256, 500, 501, 1000, 1001, 1024, 1025, 3000)],
    "wide lengths": ["é" * 1000, "ß" * 300, "ﷺ" * 64, "👨‍👩‍👧‍👦" * 60, "ı" * 255, "\U0010fffd" * 256, "ﬃ" * 64],
    "other charsets": [
        *("é".encode().decode("latin-1"), "Ã©", "â‚¬", "ÿþa\0", "+ADw-script+AD4-", "\x1b$B", "\xa0", "\xad", "テスト", "ｶﾞ", "㍻", "ﾟ"),
    ],
    "words that filters trip over": ["Scunthorpe", "Lightwater", "Dick van Dyke", "O'Brien", "Null", "Jennifer Null", "X Æ A-12", "Ng", "李"],
}  # fmt: skip

NAUGHTY = list(dict.fromkeys(string for strings in CLASSES.values() for string in strings))
# For what is too slow to be tried with all of them: some of every class, and one of every class.
SOME = list(dict.fromkeys(string for strings in CLASSES.values() for string in strings[:: max(1, len(strings) // 2)]))
ONE_OF_EACH = [strings[0] for strings in CLASSES.values()]
