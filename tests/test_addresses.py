"""Addresses: https, save on this machine or where http was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.registry.http import Address, is_loopback, origin


@pytest.mark.parametrize(
    ("text", "host", "schemes"),
    [
        ("quay.io", "quay.io", ("https",)),
        ("quay.io:8443", "quay.io:8443", ("https",)),
        ("http://registry.test", "registry.test", ("http",)),
        ("https://registry.test:5000/", "registry.test:5000", ("https",)),
        ("https://127.0.0.1:5000", "127.0.0.1:5000", ("https",)),
        ("http://localhost", "localhost", ("http",)),
        ("127.0.0.1:5000", "127.0.0.1:5000", ("http", "https")),
        ("localhost", "localhost", ("http", "https")),
        ("[::1]:5000", "[::1]:5000", ("http", "https")),
        ("192.168.0.1:5000", "192.168.0.1:5000", ("https",)),
    ],
)
def test_text_tells_host_and_schemes(text: str, host: str, schemes: tuple[str, ...]) -> None:
    assert Address.parse(text) == Address(host, schemes)


def test_https_comes_first_where_certificates_are_spoken_of() -> None:
    assert Address.parse("localhost:1", prefers_tls=True).schemes == ("https", "http")
    assert Address.parse("http://localhost:1", prefers_tls=True).schemes == ("http",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://quay.io",
        "https://",
        "https://quay.io/v2",
        "quay.io/v2",
        "quay.io?x",
        "quay.io:99999",
        "https://https://quay.io",
        "quay .io",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Address.parse(text)


@pytest.mark.parametrize("text", ["https://u:s3cr3t@quay.io", "u:s3cr3t@quay.io", "ftp://s3cr3t@h"])
def test_a_login_in_a_url_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Address.parse(text)

    assert "s3cr3t" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST:5000", True),
        ("127.9.9.9:5000", True),
        ("[::1]", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
        ("[::2]:5000", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Quay.io/v2/", ("https", "quay.io", 443)),
        ("http://quay.io", ("http", "quay.io", 80)),
        ("https://quay.io:5000/a", ("https", "quay.io", 5000)),
        ("https://user@quay.io", ("https", "quay.io", 443)),
        ("file:///etc/passwd", ("file", "", None)),
    ],
)
def test_an_origin_has_its_port_written_out(url: str, expected: object) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://h:99999/", "http://h:x/", "http://evil.test\\@quay.io/"]
)
def test_a_malformed_url_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin(url)


@given(st.text())
def test_any_text_is_an_address_or_no_reference(text: str) -> None:
    try:
        address = Address.parse(text)
    except InvalidReference:
        return
    assert address.schemes == ("https",) or text.startswith("http://") or is_loopback(address.host)
