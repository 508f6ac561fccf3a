"""The live meter and the generator of the password pages. Neither keeps, logs or sends back what was typed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

# `strength` loads its words: with the pages, so that nobody who types waits for them.
from accounts import meter, policy, strength  # noqa: F401
from config.client_address import client_network
from config.middleware import unlogged

SUGGESTIONS = 5  # on the page for browsers without script
View = Callable[[HttpRequest], HttpResponse]


def within_budget(view: View) -> View:
    """Answer 429 to whoever asks more often than a person types."""

    @wraps(view)
    def bounded(request: HttpRequest) -> HttpResponse:
        if seconds := meter.budget.take(client_network(request)):
            answer = refusal("too_many", HTTPStatus.TOO_MANY_REQUESTS)
            answer["Retry-After"] = str(seconds)
            return answer
        return view(request)

    return bounded


def refusal(code: str, status: HTTPStatus) -> HttpResponse:
    return JsonResponse({"error": code}, status=status)


@unlogged
@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_POST
@within_budget
def password_meter(request: HttpRequest) -> HttpResponse:
    """The verdict on a password that is being typed, as JSON; of a refused one too it is a 200."""
    password = request.POST.get("password")
    if password is None:
        return refusal("password_missing", HTTPStatus.BAD_REQUEST)
    user = meter.whose(request.POST.get("whose", ""), request.POST.get)
    return JsonResponse(policy.judge(password, user).as_facts())


@unlogged
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@within_budget
def password_suggestion(request: HttpRequest) -> HttpResponse:
    """A few fresh passwords as a page, or one for the script."""
    if request.method == "POST":
        return JsonResponse({"password": policy.generate()})
    suggestions = [policy.generate() for _each in range(SUGGESTIONS)]
    return render(request, "accounts/password_suggestion.html", {"suggestions": suggestions})
