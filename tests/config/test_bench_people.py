"""The people of the bench are such as the site itself would have made."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from accounts import identity
from accounts.models import User
from config.database.roles import owner_connection
from tests.accounts.conftest import sign_in
from tests.bench.people import fill_users, name_of


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_made_up_people_are_as_the_site_would_have_made_them() -> None:
    Group.objects.get_or_create(name="Member")
    with owner_connection() as owner:
        fill_users(owner, 300)
    made = list(User.objects.order_by("id"))
    assert [user.username for user in made] == [name_of(number) for number in range(1, 301)]
    for user in made:
        user.full_clean()
        assert user.username_canonical == identity.canonical_username(user.username)
        assert user.username_skeleton == identity.username_skeleton(user.username)
        assert user.email_canonical == identity.canonical_email(user.email)
        assert user.id.version == 7
    assert User.objects.filter(groups__name="Member").count() == 300
    assert sign_in(Client(), name_of(1)).status_code == 302
    User.objects.filter(username=name_of(2)).update(full_name="Somebody Else")
    assert User.objects.get(username=name_of(2)).version == 2, "the triggers are on again"
