"""References: the grammar of the distribution spec, and all that must not pass it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.references import (
    Address,
    Reference,
    is_digest,
    is_host,
    is_registered_digest,
)
from pubtools_mlmerge.errors import InvalidReference

SHA256 = "sha256:" + "a1" * 32
SHA512 = "sha512:" + "b2" * 64
BLAKE3 = "blake3:" + "c3" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quay.io/org/app:1", Reference("quay.io", "org/app", "1")),
        ("quay.io:8443/org/app:1", Reference("quay.io:8443", "org/app", "1")),
        ("localhost/app:1", Reference("localhost", "app", "1")),
        ("localhost:5000/app:1", Reference("localhost:5000", "app", "1")),
        ("127.0.0.1:5000/app:1", Reference("127.0.0.1:5000", "app", "1")),
        ("[::1]/app:1", Reference("[::1]", "app", "1")),
        ("[2001:db8::1]:5000/app:1", Reference("[2001:db8::1]:5000", "app", "1")),
        ("REGISTRY/app:1", Reference("REGISTRY", "app", "1")),
        ("org/app:1", Reference("", "org/app", "1")),
        ("app:5000", Reference("", "app", "5000")),
        ("a/b/c/d/e:1", Reference("", "a/b/c/d/e", "1")),
        ("org/a.b_c__d--e:V1.0-x_y", Reference("", "org/a.b_c__d--e", "V1.0-x_y")),
        (f"quay.io/app@{SHA256}", Reference("quay.io", "app", "", SHA256)),
        (f"quay.io/app:1@{SHA512}", Reference("quay.io", "app", "1", SHA512)),
        (f"app@{BLAKE3}", Reference("", "app", "", BLAKE3)),
        ("app@multihash+base58:QmRZxt", Reference("", "app", "", "multihash+base58:QmRZxt")),
    ],
)
def test_a_reference_has_parts(text: str, expected: Reference) -> None:
    reference = Reference.parse(text)

    assert reference == expected
    assert str(reference) == text


@pytest.mark.parametrize("scheme", ["docker", "http", "https", "oci"])
def test_a_scheme_is_to_be_left_out(scheme: str) -> None:
    with pytest.raises(InvalidReference, match=f": leave out {scheme}://$"):
        Reference.parse(f"{scheme}://quay.io/app:1")


CHANGING = """
    quay.io/org/../app:1 quay.io/../app:1 ../app:1 quay.io/./app:1 quay.io/org//app:1
    quay.io//app:1 /app:1 quay.io/app/:1 quay.io/app?x=1:1 quay.io/app:1?x=1 quay.io/app#x:1
    quay.io/app:1#x quay.io/a%2e%2e:1 quay.io/app:1%20 quay.io/App:1 quay.io/äpp:1 quay.io/app:é
    quay.io/a___b:1 quay.io/a..b:1 quay.io/-app:1 quay.io/app-:1 quay.io/app\\x:1
    https://quay.io/app:1 user:secret@quay.io/app:1
"""


@pytest.mark.parametrize(
    "text",
    [
        *CHANGING.split(),
        *("quay.io/a b:1", " quay.io/app:1", "quay.io/app:1 ", "quay.io/app:1\n"),
        *("quay.io/app\n:1", "quay.io/app\x00:1", "quay.io/app\x7f:1", "quay.io/a\r\nHost: evil:1"),
        "quay.io/app:\u0661",
    ],
)
def test_what_would_change_the_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)

    assert caught.value.text == text
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "app", "quay.io/org/app", "quay.io/app@", "localhost:5000/a"])
def test_a_reference_needs_a_tag_or_a_digest(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


@pytest.mark.parametrize("tag", ["", ".hidden", "-x", "a/b", "a:b", "x" * 129, "a\n", "a b", "ä"])
def test_a_tag_has_its_grammar(tag: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(f"quay.io/app:{tag}")
    with pytest.raises(InvalidReference, match="tag: expected 1 to 128"):
        Reference.parse("quay.io/app:1").tagged(tag)
    assert Reference.parse("quay.io/app:" + "x" * 128).tag == "x" * 128


BAD_DIGESTS = [
    *("", "sha256", "sha256:", "sha256:abc", "md5:a b", "md5:a/b", "md5:..", "md5+:abc"),
    *(f"sha256:{'a' * 63}", f"sha256:{'a' * 65}", f"sha256:{'A' * 64}", f"sha256:{'g' * 64}"),
    *(f"sha512:{'a' * 64}", f"blake3:{'a' * 63}", f"SHA256:{'a' * 64}", f":{'a' * 64}"),
    *(f"{SHA256}\n", f"{SHA256}@{SHA256}"),
]


@pytest.mark.parametrize("bad", BAD_DIGESTS)
def test_a_digest_has_the_form_of_its_algorithm(bad: str) -> None:
    with pytest.raises(InvalidReference, match="digest: expected algorithm:encoded"):
        Reference.parse(f"quay.io/app:1@{bad}")
    with pytest.raises(InvalidReference, match="digest: expected algorithm:encoded"):
        Reference.parse("quay.io/app:1").at(bad)
    assert not is_registered_digest(bad)


@pytest.mark.parametrize("good", [SHA256, SHA512, BLAKE3])
def test_registered_digests_are_known(good: str) -> None:
    assert is_registered_digest(good)
    assert is_digest(good)
    assert is_digest("sha256+b64u:LCa0a2j_xo=")
    assert not is_registered_digest("sha256+b64u:LCa0a2j_xo=")


HOSTS = ("quay.io", "a", "localhost", "xn--bcher-kva.example", "127.0.0.1", "[::1]")


@pytest.mark.parametrize("host", [*HOSTS, "[::1]:65535", "a:1"])
def test_a_host_is_a_name_or_address_with_an_optional_port(host: str) -> None:
    assert is_host(host)
    assert Reference.parse(f"{host}:1/app:1").host if ":" not in host else True


NO_HOSTS = """
    quay.io: quay.io:0 quay.io:00000 quay.io:65536 quay.io:99999 quay.io:123456 quay.io:-1
    quay.io:80:80 quay.io:٨٠ quay.io:x [1::2::3] [::1]:0 [::1]:99999 [::1]x [::1 [] [fe80::1%25eth0]
    ::1 -quay.io quay-.io quay..io .io quay.io. user@quay.io bücher.example
"""


@pytest.mark.parametrize("host", ["", "quay.io\n", *NO_HOSTS.split()])
def test_other_text_is_no_host(host: str) -> None:
    assert not is_host(host)
    with pytest.raises(InvalidReference):
        Reference.parse(f"{host}/org/app:1")


@pytest.mark.parametrize("longest", ["quay.io/" + "a" * 247, "a" * 255])
def test_a_name_may_have_255_characters_with_its_host(longest: str) -> None:
    assert Reference.parse(f"{longest}:1").name == longest
    with pytest.raises(InvalidReference, match="longer than 255"):
        Reference.parse(f"{longest}a:1")


def test_other_names_in_the_same_repository() -> None:
    tagged = Reference.parse("quay.io/app:1")
    pinned = Reference.parse(f"quay.io/app:1@{SHA256}")

    assert (tagged.target, pinned.target) == ("1", SHA256)
    assert str(tagged.at(SHA256)) == f"quay.io/app@{SHA256}"
    assert str(pinned.tagged("2")) == "quay.io/app:2"


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("docker.io/app:1", "registry-1.docker.io/library/app:1"),
        ("Docker.io:443/app:1", "registry-1.docker.io/library/app:1"),
        ("index.docker.io/org/app:1", "registry-1.docker.io/org/app:1"),
        (f"registry-1.docker.io/app@{SHA256}", f"registry-1.docker.io/library/app@{SHA256}"),
        ("docker.io:8443/app:1", "docker.io:8443/app:1"),
        ("quay.io/app:1", "quay.io/app:1"),
        ("app:1", "app:1"),
    ],
)
def test_docker_io_is_a_name_of_docker_hub(text: str, resolved: str) -> None:
    assert str(Reference.parse(text).resolved) == resolved


@pytest.mark.parametrize("text", ["https://u:secret@quay.io", "u@quay.io"])
def test_an_address_with_a_login_is_not_called_malformed(text: str) -> None:
    with pytest.raises(InvalidReference, match="expected a host without user and password"):
        Address.parse(text)


ANY_HOSTS = st.sampled_from(["org/", "quay.io/", "localhost/", "a.b:5000/", "[::1]:443/", "HOST/"])
REPOSITORIES = st.from_regex(
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+){0,2}(/[a-z0-9]+){0,2}", fullmatch=True
)
TAGS = st.from_regex(r"(:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9})?", fullmatch=True)
DIGESTS = st.sampled_from(["", f"@{SHA256}", f"@{SHA512}", "@md5:x", "@a+b.c_d-e:=_-"])


@given(ANY_HOSTS, REPOSITORIES, TAGS, DIGESTS)
def test_what_is_read_is_written_the_same(
    host: str, repository: str, tag: str, digest: str
) -> None:
    text = f"{host}{repository}{tag or (':1' if not digest else '')}{digest}"

    reference = Reference.parse(text)

    assert str(reference) == text
    assert Reference.parse(str(reference)) == reference
