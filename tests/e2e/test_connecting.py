"""Where the programs connect, whom they trust and as whom they log in, on real registries."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from attrs import frozen

from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import make_index
from tests.e2e.conftest import Shelf, images, merged
from tests.programs import Done
from tests.programs import run_here as run
from tests.servers import TOKEN_PASSWORD, TOKEN_USER

OLD = images("linux/amd64", "linux/s390x", seed="old")
NEW = images("linux/amd64", seed="new")
USERS = ("--source-quay-user", TOKEN_USER, "--dest-quay-user", TOKEN_USER)
PASSWORDS = ("--source-quay-password", TOKEN_PASSWORD, "--dest-quay-password", TOKEN_PASSWORD)
VARIABLES = {"SOURCE_QUAY_PASSWORD": TOKEN_PASSWORD, "DEST_QUAY_PASSWORD": TOKEN_PASSWORD}
LOGIN = base64.b64encode(f"{TOKEN_USER}:{TOKEN_PASSWORD}".encode()).decode()


@frozen
class Pair:
    """A source and a tag to merge it into."""

    shelf: Shelf

    def merge(self, *options: str, env: dict[str, str] | None = None) -> Done:
        """Merge one into the other."""
        tags = ("--source-ref", self.shelf.ref("new"), "--dest-ref", self.shelf.ref("stable"))
        return run("merge", *tags, "--output", "json", *options, env=env)

    @property
    def is_merged(self) -> bool:
        """Whether the tag holds what it must hold after the merge."""
        return self.shelf.get("stable").content == merged(*NEW, OLD[1])

    @property
    def is_as_before(self) -> bool:
        """Whether the tag holds what it held at the beginning."""
        return self.shelf.get("stable").content == make_index(OLD).content


def _pair(shelf: Shelf) -> Pair:
    shelf.put("stable", make_index(OLD))
    shelf.put("new", make_index(NEW))
    return Pair(shelf)


@pytest.fixture
def pair(shelf: Shelf) -> Pair:
    return _pair(shelf)


@pytest.fixture
def tls_pair(tls_shelf: Shelf) -> Pair:
    return _pair(tls_shelf)


@pytest.fixture
def token_pair(token_shelf: Shelf) -> Pair:
    return _pair(token_shelf)


def test_a_ca_bundle_makes_a_registry_trusted(tls_pair: Pair) -> None:
    done = tls_pair.merge("--ca-bundle", str(tls_pair.shelf.registry.ca_file))

    assert done.code == 0, done.err
    assert tls_pair.is_merged


def test_a_ca_bundle_may_come_from_the_environment(tls_pair: Pair) -> None:
    done = tls_pair.merge(env={"REQUESTS_CA_BUNDLE": str(tls_pair.shelf.registry.ca_file)})

    assert done.code == 0, done.err
    assert tls_pair.is_merged


def test_certificates_are_verified(tls_pair: Pair) -> None:
    done = tls_pair.merge("--quay-host", tls_pair.shelf.registry.url)

    assert done.code == 1
    assert "certificate" in done.err.lower()
    assert tls_pair.is_as_before


def test_verification_can_be_turned_off(tls_pair: Pair) -> None:
    done = tls_pair.merge("--insecure")

    assert done.code == 0
    assert tls_pair.is_merged
    assert "Warning:" not in done.err


@pytest.mark.parametrize(
    ("options", "variables"), [((*USERS, *PASSWORDS), {}), (USERS, VARIABLES)], ids=["args", "env"]
)
def test_one_token_is_enough_for_a_merge(
    token_pair: Pair, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    tokens, record = token_pair.shelf.registry.tokens, token_pair.shelf.mark()
    assert tokens is not None
    before = tokens.count

    done = token_pair.merge(*options, env=variables)

    assert done.code == 0, done.err
    asked = [(line.split()[0], line.split()[2]) for line in record]
    assert asked[:3] == [("GET", "401"), ("GET", "200"), ("GET", "200")]
    assert asked[3:] == [("HEAD", "200"), ("PUT", "201"), ("HEAD", "200")]
    assert tokens.scopes[before:] == [(f"repository:{token_pair.shelf.repository}:pull,push",)]
    assert token_pair.is_merged


@pytest.mark.parametrize("variable", ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG"])
def test_a_login_is_found_in_an_auth_file(token_pair: Pair, tmp_path: Path, variable: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {token_pair.shelf.registry.host: {"auth": LOGIN}}}))
    value = path if variable == "REGISTRY_AUTH_FILE" else tmp_path

    done = token_pair.merge(env={variable: str(value)})

    assert done.code == 0, done.err
    assert token_pair.is_merged


def test_one_token_is_enough_for_the_class(token_pair: Pair) -> None:
    shelf, tokens = token_pair.shelf, token_pair.shelf.registry.tokens
    assert tokens is not None
    record, before = shelf.mark(), tokens.count
    client = RegistryClient(TOKEN_USER, TOKEN_PASSWORD, shelf.registry.url)
    merger = ManifestListMerger(shelf.ref("new"), shelf.ref("stable"))
    merger.set_quay_clients(client, client)

    merger.merge_manifest_lists()
    client.close()

    assert sorted(line.split()[2] for line in record) == ["200", "200", "201", "401"]
    assert tokens.scopes[before:] == [(f"repository:{shelf.repository}:pull,push",)]
    assert token_pair.is_merged


def test_a_dry_run_asks_for_no_right_to_write(token_pair: Pair) -> None:
    tokens = token_pair.shelf.registry.tokens
    assert tokens is not None
    before = tokens.count

    done = token_pair.merge(*USERS, "--dry-run", env=VARIABLES)

    assert done.code == 0, done.err
    assert tokens.scopes[before:] == [(f"repository:{token_pair.shelf.repository}:pull",)]
    assert token_pair.is_as_before


def test_a_wrong_password_is_a_plain_error(token_pair: Pair) -> None:
    wrong = {"SOURCE_QUAY_PASSWORD": "looking-glass", "DEST_QUAY_PASSWORD": "looking-glass"}

    done = token_pair.merge(*USERS, env=wrong)

    assert (done.code, done.out) == (1, "")
    assert "not authorized (HTTP 401)" in done.err
    assert len(done.err.splitlines()) <= 2
    assert "looking-glass" not in done.err
    assert token_pair.is_as_before


def test_no_login_is_a_plain_error(token_pair: Pair) -> None:
    done = token_pair.merge()

    assert (done.code, done.out) == (1, "")
    assert "not authorized (HTTP 401)" in done.err
    assert token_pair.is_as_before


def test_a_password_without_a_user_is_not_used(pair: Pair) -> None:
    done = pair.merge(env=VARIABLES)

    assert done.code == 0, done.err
    assert pair.is_merged


@pytest.mark.parametrize("debug", ["-d", "-ddd"])
def test_secrets_show_up_nowhere(token_pair: Pair, debug: str) -> None:
    tokens = token_pair.shelf.registry.tokens
    assert tokens is not None
    source = f"{token_pair.shelf.repository}-too"
    token_pair.shelf.put("new", make_index(NEW), source)
    other = token_pair.shelf.ref("new", source)

    done = run(
        *("merge", "--source-ref", other, "--dest-ref", token_pair.shelf.ref("stable")),
        *("--copy", "skopeo", debug, *USERS, *PASSWORDS),
    )

    assert done.code == 0, done.err
    assert token_pair.is_merged
    assert "DEBUG" in done.err
    for secret in (TOKEN_PASSWORD, LOGIN, "Bearer", "eyJ"):
        assert secret not in done.out + done.err


@pytest.mark.parametrize("form", ["url", "host"])
def test_references_may_name_a_host_that_is_not_connected_to(pair: Pair, form: str) -> None:
    host = pair.shelf.registry.url if form == "url" else pair.shelf.registry.host
    name = f"quay.io/{pair.shelf.repository}"

    done = run(
        *("merge", "--source-ref", f"{name}:new", "--dest-ref", f"{name}:stable"),
        *("--quay-host", host, "--output", "json"),
    )

    assert done.code == 0, done.err
    assert pair.is_merged
    assert done.report["destination"] == f"quay.io/{pair.shelf.repository}:stable"


def test_references_may_name_no_host(pair: Pair) -> None:
    done = run(
        *("merge", "--source-ref", f"{pair.shelf.repository}:new"),
        *("--dest-ref", f"{pair.shelf.repository}:stable"),
        *("--quay-host", pair.shelf.registry.host),
    )

    assert done.code == 0, done.err
    assert pair.is_merged


def test_the_source_may_be_on_a_host_of_its_own(pair: Pair, token_shelf: Shelf) -> None:
    token_shelf.put("stable", make_index(OLD))

    done = run(
        *("merge", "--source-ref", f"quay.io/{pair.shelf.repository}:new"),
        *("--dest-ref", f"quay.io/{token_shelf.repository}:stable"),
        *("--quay-host", token_shelf.registry.url, "--dest-quay-user", TOKEN_USER),
        *("--source-quay-host", pair.shelf.registry.url),
        env={"DEST_QUAY_PASSWORD": TOKEN_PASSWORD},
    )

    assert done.code == 0, done.err
    assert token_shelf.get("stable").content == merged(*NEW, OLD[1])
