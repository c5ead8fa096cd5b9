"""Exchange: what callers of the http library get to see, and what nobody does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from pubtools_mlmerge.registry.http import Answer, ConnectOptions, Request

SECRET = 'p"a\\s/s <wörd> \U0001f511'


def answer(status: int = 200, content: bytes = b"", reason: str = "") -> Answer:
    headers = CaseInsensitiveDict({"content-type": "text/plain"})
    return Answer(status, headers, content, "https://quay.io/v2/?signature=s3cr3t", reason)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (299, True), (300, False)])
def test_success_is_any_2xx(status: int, expected: bool) -> None:
    assert answer(status).is_success is expected


def test_a_refusal_becomes_the_error_of_the_http_library() -> None:
    error = answer(404, b"nothing here", "Not Found").as_http_error()

    assert error.response.status_code == 404
    assert error.response.text == "nothing here"
    assert error.response.headers["Content-Type"] == "text/plain"
    assert str(error).startswith("404 Client Error: Not Found for url: https://quay.io/v2/")


def test_a_redirect_that_is_not_followed_becomes_an_error_too() -> None:
    error = answer(307).as_http_error()

    assert error.response.status_code == 307
    assert str(error) == "307 unexpected answer for url: https://quay.io/v2/"


@pytest.mark.parametrize("status", [307, 403])
def test_the_signature_in_a_url_stays_out_of_errors(status: int) -> None:
    error = answer(status).as_http_error()

    assert "s3cr3t" not in f"{error} {error.response.url} {answer()!r}"


def test_representations_show_no_headers_and_no_content() -> None:
    headers = {"Authorization": "Basic s3cr3t"}
    request = Request(method="PUT", url="/", subject="app", headers=headers, content=b"s3cr3t")

    assert "s3cr3t" not in repr(request)
    assert "s3cr3t" not in repr(answer(content=b"s3cr3t"))


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_secret_is_taken_out_of_json(ascii_only: bool) -> None:
    content = json.dumps({"message": f"wrong: {SECRET}!"}, ensure_ascii=ascii_only).encode()

    cleaned = answer(content=content).without([SECRET])

    assert json.loads(cleaned.content) == {"message": "wrong: ***!"}


def test_a_secret_is_taken_out_of_the_reason() -> None:
    assert answer(reason="no s3cr3t here").without(["s3cr3t"]).reason == "no *** here"


def test_a_secret_within_another_one_leaves_nothing() -> None:
    assert answer(content=b"abcdef").without(["abc", "", "abcdef"]).content == b"***"


@pytest.mark.parametrize("secrets", [(), ("",), ("absent",)])
def test_what_holds_no_secret_stays_as_it_is(secrets: tuple[str, ...]) -> None:
    assert answer(content=b"\xff\x00").without(secrets) == answer(content=b"\xff\x00")


@given(st.text(min_size=1).filter(str.isprintable), st.booleans(), st.booleans())
def test_no_way_to_escape_hides_a_secret(secret: str, all_of_it: bool, upper: bool) -> None:
    text = json.dumps(secret)[1:-1]
    if all_of_it:
        units = secret.encode("utf-16-be").hex()
        text = "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
    hexadecimal = text.upper().replace("\\U", "\\u") if upper and all_of_it else text

    assert answer(content=hexadecimal.encode()).without([secret]).content == b"***"


@pytest.mark.parametrize(
    ("options", "verify", "prefers_tls"),
    [
        (ConnectOptions(), True, False),
        (ConnectOptions(ca_bundle="ca.pem"), "ca.pem", True),
        (ConnectOptions(insecure=True), False, True),
        (ConnectOptions(insecure=True, ca_bundle="ca.pem"), False, True),
    ],
)
def test_certificates_are_verified_unless_told_otherwise(
    options: ConnectOptions, verify: bool | str, prefers_tls: bool
) -> None:
    assert options.verify == verify
    assert options.prefers_tls is prefers_tls
