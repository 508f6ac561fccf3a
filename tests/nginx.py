"""The documented nginx, on a port of the test's and in front of its sites."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LOGIN, ROOT, Browser, free_port, wait_until

_MAIN = """\
{user}
worker_processes 1;
daemon off;
pid {place}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log {place}/gatehouse-default.log;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    include {place}/site.conf;
}}
"""


def as_shipped_but_without_tls(port: int, upstreams: tuple[int, ...], place: Path) -> str:
    """The documented configuration, on a port of the test's and in front of the one or two hosts at `upstreams`."""
    text = (ROOT / "docs" / "nginx.conf").read_text()
    if len(upstreams) > 1:
        text = text.replace("    #server ", "    server ")
    for documented, upstream in zip(("127.0.0.1:8000", "192.0.2.12:8000"), upstreams, strict=False):
        assert text.count(f"server {documented} ") == 2
        text = text.replace(f"server {documented} ", f"server 127.0.0.1:{upstream} ")
    for shipped, here in (
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
        ("    ssl_certificate /etc/ssl/gatehouse.example.pem;\n", ""),
        ("    ssl_certificate_key /etc/ssl/gatehouse.example.key;\n", ""),
    ):
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, here)
    return text.replace("/var/log/nginx/", f"{place}/")


@contextlib.contextmanager
def nginx_before(*upstreams: int, place: Path) -> Iterator[int]:
    """Run nginx in front of the ports `upstreams`, with its files in `place`, until the block ends; gives its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("no nginx on this machine")
    port = free_port()
    (place / "site.conf").write_text(as_shipped_but_without_tls(port, upstreams, place))
    user = "user root;" if os.geteuid() == 0 else ""
    (place / "main.conf").write_text(_MAIN.format(user=user, place=place))
    with (place / "said").open("w") as said:
        process = subprocess.Popen([program, "-p", str(place), "-c", str(place / "main.conf")], stderr=said)
        try:
            wait_until(lambda: process.poll() is not None or is_up(port), "nginx answers", seconds=20)
            assert process.poll() is None, (place / "said").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(20)


def is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        return Browser(port, timeout=5).get(LOGIN).status > 0
    return False
