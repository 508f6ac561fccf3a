"""Where a request came from: the peer, or what our own proxies say, never what a stranger writes."""

from __future__ import annotations

import pytest
from django.test import RequestFactory, override_settings

from config.client_address import client_address, client_network, network_of

PEER = "203.0.113.9"


def address_of(forwarded: str | None, proxies: int, peer: str = PEER) -> str:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)
    with override_settings(TRUSTED_PROXIES=proxies):
        return client_address(request)


@pytest.mark.parametrize(
    ("forwarded", "proxies", "expected"),
    [
        (None, 0, PEER),
        ("198.51.100.1", 0, PEER),  # without proxies of ours the header is a stranger's word
        ("198.51.100.1", 1, "198.51.100.1"),
        ("6.6.6.6, 198.51.100.1", 1, "198.51.100.1"),  # what the client wrote stands further left
        ("6.6.6.6, 198.51.100.1, 10.0.0.1", 2, "198.51.100.1"),
        ("198.51.100.1", 2, PEER),  # shorter than our chain: it did not come through all proxies
        ("nonsense", 1, PEER),
        ("", 1, PEER),
        (" 2001:db8::1 ", 1, "2001:db8::1"),
        ("198.51.100.1:51234", 1, "198.51.100.1"),  # some proxies append the port
        ("[2001:db8::1]:443", 1, "2001:db8::1"),
        ("[2001:db8::1", 1, "2001:db8::1"),
        ("198.51.100.1:", 1, "198.51.100.1"),
        ("fe80::1%eth0", 1, "fe80::1"),  # no database takes the zone
        ("[fe80::1%25eth0]:443", 1, "fe80::1"),
        (":", 1, PEER),
        (None, 1, PEER),
    ],
)
def test_the_address_stands_as_many_places_from_the_right_as_we_have_proxies(
    forwarded: str | None, proxies: int, expected: str
) -> None:
    assert address_of(forwarded, proxies) == expected


def test_a_unix_socket_has_no_address() -> None:
    assert address_of(None, 0, peer="") == ""


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1::", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::/64", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_a_network_is_an_ipv4_address_or_64_bits_of_an_ipv6_one(address: str, network: str) -> None:
    assert network_of(address) == network
    assert client_network(RequestFactory().get("/", REMOTE_ADDR=address.removesuffix("/64"))) == network


@pytest.mark.parametrize("text", ["", "nonsense", "192.0.2.0/24", "2001:db8::/32", "1.2.3", "192.0.2.7:80"])
def test_what_is_no_address_is_no_network(text: str) -> None:
    with pytest.raises(ValueError):
        network_of(text)


def test_a_unix_socket_has_no_network() -> None:
    assert client_network(RequestFactory().get("/", REMOTE_ADDR="")) == ""
