"""In development, mails are files in ``.mail/``; these pages show them."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage as OutgoingMail
from django.core.mail.backends.base import BaseEmailBackend
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from config.middleware import CONTENT_SECURITY_POLICY

_NEWEST = 100
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


class MailDirectoryBackend(BaseEmailBackend):
    """Puts each mail into a file of its own instead of sending it."""

    @property
    def file_path(self) -> str:
        """Where the files are, by the name that Django's own back end for files has for it."""
        return str(settings.MAIL_DIRECTORY)

    def send_messages(self, email_messages: Sequence[OutgoingMail]) -> int:
        directory = Path(self.file_path)
        directory.mkdir(mode=0o700, exist_ok=True)
        for message in email_messages:
            name = f"{time.time_ns()}-{secrets.token_hex(4)}.eml"
            (directory / name).write_bytes(message.message().as_bytes())
        return len(email_messages)


@dataclass(frozen=True)
class Mail:
    name: str
    subject: str
    sender: str
    recipients: str
    date: datetime
    text: str
    html: str


def _read(path: Path) -> Mail:
    message = message_from_bytes(path.read_bytes(), _class=EmailMessage, policy=policy.default)
    parts = {part.get_content_type(): str(part.get_content()) for part in message.walk() if not part.is_multipart()}
    return Mail(
        name=path.stem,
        subject=str(message["Subject"]),
        sender=str(message["From"]),
        recipients=str(message["To"]),
        date=parsedate_to_datetime(str(message["Date"])),
        text=parts.get("text/plain", "").strip(),
        html=parts.get("text/html", ""),
    )


def _find(name: str) -> Mail:
    # Looked up among the files that exist, so that no name can leave the directory.
    for path in Path(settings.MAIL_DIRECTORY).glob("*.eml"):
        if path.stem == name:
            return _read(path)
    raise Http404


@require_GET
def mail_list(request: HttpRequest) -> HttpResponse:
    newest = sorted(Path(settings.MAIL_DIRECTORY).glob("*.eml"), reverse=True)[:_NEWEST]
    return render(request, "config/mail_list.html", {"mails": [_read(path) for path in newest]})


@require_GET
def mail_detail(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "config/mail_detail.html", {"mail": _find(name)})


@require_GET
def mail_html(request: HttpRequest, name: str) -> HttpResponse:
    """Show a mail as its reader would see it; its style sheet is allowed by its hash."""
    html = _find(name).html
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        for style in _STYLE.findall(html)
    )
    response = HttpResponse(html)
    response["Content-Security-Policy"] = f"{CONTENT_SECURITY_POLICY}; style-src 'self' {hashes}"
    return response
