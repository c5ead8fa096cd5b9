"""Challenges: the forms that registries write, and what attackers might."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.registry.auth import Challenge, parse_challenges

BEARER = Challenge("bearer", {"realm": "https://auth.test/token", "service": "registry"})


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="https://auth.test/token",service="registry"',
        'bearer realm="https://auth.test/token", service="registry"',
        'BEARER  Realm = "https://auth.test/token" , SERVICE = registry',
        'Bearer service=registry,realm="https://auth.test/token",',
        ' , Bearer realm="https:\\/\\/auth.test/token",service="registry"',
        'Bearer realm="https://auth.test/token",service="registry",realm="https://evil.test"',
    ],
)
def test_one_challenge_has_many_forms(header: str) -> None:
    assert parse_challenges(header) == (BEARER,)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="my ""registry"', (Challenge("basic"),)),
        (
            'Basic realm="say \\"hi\\", friend"',
            (Challenge("basic", {"realm": 'say "hi", friend'}),),
        ),
        ('Basic realm=""', (Challenge("basic", {"realm": ""}),)),
        ("Negotiate, Basic realm=x", (Challenge("negotiate"), Challenge("basic", {"realm": "x"}))),
        ("=broken", ()),
        ('"Bearer"', ()),
    ],
)
def test_a_header_is_read_as_far_as_it_goes(header: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(header) == expected


def test_several_challenges_come_in_their_order() -> None:
    header = 'Basic realm="a, Bearer realm=b", Bearer realm="c",scope="r:x:pull,push",Digest qop=1'

    found = parse_challenges(header)

    assert [challenge.scheme for challenge in found] == ["basic", "bearer", "digest"]
    assert found[0].parameters == {"realm": "a, Bearer realm=b"}
    assert found[1].parameters == {"realm": "c", "scope": "r:x:pull,push"}


@pytest.mark.parametrize("header", ['Bearer realm="open', 'Bearer realm="open\\"', "Bearer realm="])
def test_a_parameter_that_does_not_end_is_left_out(header: str) -> None:
    assert parse_challenges(header) == (Challenge("bearer"),)


@given(st.text() | st.text('Bearer =",\\ \t'))
def test_any_header_gives_challenges(header: str) -> None:
    found = parse_challenges(header)

    assert isinstance(found, tuple)
    assert all(challenge.scheme == challenge.scheme.lower() != "" for challenge in found)


PIECES = ["a=", '"', "\\", '\\"', 'a="', "a ", " ", ",", ", ", "a,", "a", 'a=", ', "a =", "a= "]


@pytest.mark.parametrize("start", ["", "Bearer ", 'Bearer realm="'])
@pytest.mark.parametrize("piece", PIECES)
def test_a_hostile_header_is_read_in_no_time(start: str, piece: str) -> None:
    """Backtracking without bound would not end while this test waits for it."""
    assert len(parse_challenges(start + piece * 8192)) <= 4097


def test_only_the_beginning_of_a_header_is_read() -> None:
    assert parse_challenges(" " * 8192 + "Basic") == ()


@given(st.from_regex(r"[a-z]+", fullmatch=True), st.text(st.characters(codec="latin-1")))
def test_a_quoted_value_survives(name: str, value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')

    found = parse_challenges(f'Bearer {name}="{escaped}"')

    assert found == (Challenge("bearer", {name: value}),)
