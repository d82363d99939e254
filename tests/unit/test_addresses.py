"""Addresses: every way to write one that means something, and a helpful word for the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import Invalid
from dsa_zmq.model.addresses import DEFAULT_URL, endpoint, parse_url, split_endpoint, with_host


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("dsa://alpha", ("tcp://alpha:7700",)),
        ("dsa://alpha/", ("tcp://alpha:7700",)),
        ("DSA://alpha:1", ("tcp://alpha:1",)),
        ("dsa://10.0.0.7:65535", ("tcp://10.0.0.7:65535",)),
        ("dsa://[::1]", ("tcp://[::1]:7700",)),
        ("dsa://[fe80::1]:7800", ("tcp://[fe80::1]:7800",)),
        ("dsa://a,b", ("tcp://a:7700", "tcp://b:7700")),
        ("dsa://a,b:7801", ("tcp://a:7801", "tcp://b:7801")),
        ("dsa://a:7801,b:7802", ("tcp://a:7801", "tcp://b:7802")),
        ("dsa://[::1]:1,my_host.example.org:2,10.0.0.1:3",
         ("tcp://[::1]:1", "tcp://my_host.example.org:2", "tcp://10.0.0.1:3")),
    ],
)  # fmt: skip
def test_addresses_become_endpoints(url: str, endpoints: tuple[str, ...]) -> None:
    assert parse_url(url) == endpoints


def test_the_default_is_this_machine() -> None:
    assert parse_url(DEFAULT_URL) == ("tcp://127.0.0.1:7700",)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("", "not the address of a cluster"),
        ("alpha:7700", "not the address of a cluster"),
        ("http://alpha", "not the address of a cluster"),
        ("dsa:/data", "not the address of a cluster"),
        ("dsa:///", "lacks a host"),
        ("dsa://", "lacks a host"),
        ("dsa://:7700", "lacks a host"),
        ("dsa://a,", "lacks a host"),
        ("dsa://a,,b", "lacks a host"),
        ("dsa://a:port", "not a port"),
        ("dsa://a:", "not a port"),
        ("dsa://a:0", "not a port"),
        ("dsa://a:65536", "not a port"),
        ("dsa://a:-1", "not a port"),
        ("dsa://a:٣", "'٣'"),
        ("dsa://a:7700/data", "'/'"),
        ("dsa://user@a", "'@'"),
        ("dsa://a?x=1", r"'\?'"),
        ("dsa://a b", "' '"),
        ("dsa://a\n", r"'\\n'"),
        ("dsa://ünder", "'ü'"),
        ("dsa://a:1:2", "brackets"),
        ("dsa://::1", "brackets"),
        ("dsa://fe80::1", "brackets"),
        ("dsa://[::1", "brackets"),
        ("dsa://[::1]x", "brackets"),
        ("dsa://[alpha]", "not an IPv6 address"),
        ("dsa://[10.0.0.1]", "not an IPv6 address"),
        ("dsa://[]", "not an IPv6 address"),
        ("dsa://[::]", "no host to connect to"),
        ("dsa://0.0.0.0", "no host to connect to"),
        ("dsa://*", "no host to connect to"),
        ("dsa://999.1.1.1", "not an IPv4 address"),
        ("dsa://-a", "not a host name"),
        ("dsa://" + "a" * 300, "not a host name"),
        ("dsa://a:7801,b", "some hosts only"),
        ("dsa://a,b:7801,c:7802", "some hosts only"),
    ],
)
def test_a_malformed_address_is_refused_with_cause_and_remedy(url: str, cause: str) -> None:
    with pytest.raises(Invalid, match=cause) as refused:
        parse_url(url)
    assert refused.value.remedy
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


@given(st.text(st.sampled_from("dsa:/[]0123,.*-ab@\n\udc80é"), max_size=20))
def test_any_text_is_an_address_or_invalid(text: str) -> None:
    try:
        endpoints, refusal = parse_url("dsa://" + text), ""
    except Invalid as error:
        endpoints, refusal = (), str(error)
    assert bool(endpoints) != bool(refusal)
    assert refusal.isprintable()
    for one in endpoints:
        host, port = split_endpoint(one)
        assert endpoint(host, port) == one
        assert 0 < port < 65536


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("a", 1, "tcp://a:1"),
        ("::1", 2, "tcp://[::1]:2"),
        ("*", 0, "tcp://*:0"),
        ("0.0.0.0", 7710, "tcp://0.0.0.0:7710"),
    ],
)
def test_endpoints_split_into_what_they_were_made_of(host: str, port: int, text: str) -> None:
    assert endpoint(host, port) == text
    assert split_endpoint(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp://",
        "tcp://a",
        "a:1",
        "ipc://a:1",
        "tcp://:1",
        "tcp://a:b",
        "tcp://a:70000",
        "tcp://::1:7",
        "tcp://[::1:7",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        split_endpoint(text)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("text", "host", "result"),
    [
        ("tcp://0.0.0.0:7701", "10.0.0.7", "tcp://10.0.0.7:7701"),
        ("tcp://*:7701", "alpha", "tcp://alpha:7701"),
        ("tcp://[::]:7701", "fe80::1", "tcp://[fe80::1]:7701"),
        ("tcp://beta:7701", "alpha", "tcp://beta:7701"),
    ],
)
def test_only_a_wildcard_host_is_replaced(text: str, host: str, result: str) -> None:
    assert with_host(text, host) == result
