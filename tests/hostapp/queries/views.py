from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from config.paging import page_of
from tests.hostapp.queries.models import PopularQuery, Query

MOST_POPULAR = 10


@login_required
@require_safe
def query_list(request: HttpRequest) -> HttpResponse:
    context = {
        "page": page_of(Query.objects.of(request.user), request.GET, by="at"),
        "popular": PopularQuery.objects.popular()[:MOST_POPULAR],
        "trending": PopularQuery.objects.trending()[:MOST_POPULAR],
    }
    return render(request, "queries/query_list.html", context)
