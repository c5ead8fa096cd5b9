"""Where the programs connect, whom they trust and as whom they log in, on real registries."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import make_image, make_index, upload
from tests.e2e.conftest import Shelf, images, merge, merged
from tests.programs import environment, run_here, write_program
from tests.servers import TOKEN_PASSWORD, TOKEN_USER, RealRegistry, docker_registry, require

OLD = images("linux/amd64", "linux/s390x", seed="old")
NEW = images("linux/amd64", seed="new")
USERS = ("--source-quay-user", TOKEN_USER, "--dest-quay-user", TOKEN_USER)
PASSWORDS = ("--source-quay-password", TOKEN_PASSWORD, "--dest-quay-password", TOKEN_PASSWORD)
VARIABLES = {"SOURCE_QUAY_PASSWORD": TOKEN_PASSWORD, "DEST_QUAY_PASSWORD": TOKEN_PASSWORD}
LOGIN = base64.b64encode(f"{TOKEN_USER}:{TOKEN_PASSWORD}".encode()).decode()


def is_merged(shelf: Shelf) -> bool:
    """Whether the tag holds what it must hold after the merge."""
    return shelf.get("stable").content == merged(*NEW, OLD[1])


def is_as_before(shelf: Shelf) -> bool:
    return shelf.get("stable").content == make_index(OLD).content


@pytest.fixture(autouse=True)
def _filled(request: pytest.FixtureRequest) -> None:
    """Let each registry of a test hold a source and a tag to merge it into."""
    for name in {"shelf", "tls_shelf", "token_shelf"} & set(request.fixturenames):
        shelf = request.getfixturevalue(name)
        assert isinstance(shelf, Shelf)
        shelf.hold(stable=OLD, new=NEW)


def asked_scopes(shelf: Shelf) -> list[tuple[str, ...]]:
    """List what tokens were asked for so far."""
    assert shelf.registry.tokens is not None
    return list(shelf.registry.tokens.scopes)


@pytest.mark.parametrize("how", ["option", "environment", "off"])
def test_a_registry_is_trusted_by_its_authority_or_if_told_so(tls_shelf: Shelf, how: str) -> None:
    bundle = str(tls_shelf.registry.ca_file)
    options = {"option": ("--ca-bundle", bundle), "off": ("--insecure",)}.get(how, ())

    done = tls_shelf.merge(*options, env={} if options else {"REQUESTS_CA_BUNDLE": bundle})

    assert is_merged(tls_shelf)
    assert "Warning:" not in done.err


@pytest.mark.parametrize(
    ("options", "variables", "rights"),
    [
        ((*USERS, *PASSWORDS), {}, "pull,push"),
        (USERS, VARIABLES, "pull,push"),
        ((*USERS, "--dry-run"), VARIABLES, "pull"),
    ],
)
def test_one_token_is_enough_for_what_a_merge_needs(
    token_shelf: Shelf, options: tuple[str, ...], variables: dict[str, str], rights: str
) -> None:
    record, before = token_shelf.mark(), asked_scopes(token_shelf)

    token_shelf.merge(*options, env=variables)

    asked = [f"{line.split()[0]} {line.split()[2]}" for line in record]
    assert asked[:3] == ["GET 401", "GET 200", "GET 200"]
    assert asked[3:] == (["HEAD 200", "PUT 201", "HEAD 200"] if "push" in rights else [])
    scope = f"repository:{token_shelf.repository}:{rights}"
    assert asked_scopes(token_shelf)[len(before) :] == [(scope,)]
    assert is_merged(token_shelf) is ("push" in rights)


def test_one_token_is_enough_for_the_class(token_shelf: Shelf) -> None:
    record, before = token_shelf.mark(), asked_scopes(token_shelf)
    url = token_shelf.registry.url
    with RegistryClient(url, username=TOKEN_USER, password=TOKEN_PASSWORD) as client:
        merger = ManifestListMerger(token_shelf.ref("new"), token_shelf.ref("stable"))
        merger.set_quay_clients(client, client)

        merger.merge_manifest_lists()

    assert sorted(line.split()[2] for line in record) == ["200", "200", "201", "401"]
    scope = f"repository:{token_shelf.repository}:pull,push"
    assert asked_scopes(token_shelf)[len(before) :] == [(scope,)]
    assert is_merged(token_shelf)


@pytest.mark.parametrize("password", ["looking-glass", None])
def test_a_refused_login_is_a_plain_error(token_shelf: Shelf, password: str | None) -> None:
    wrong = {} if password is None else dict.fromkeys(VARIABLES, password)

    done = token_shelf.merge(*(USERS if password else ()), env=wrong, code=1)

    assert '"status": 401' in done.out
    assert "not authorized (HTTP 401)" in done.err
    assert len(done.err.splitlines()) <= 2
    assert "looking-glass" not in done.out + done.err
    assert is_as_before(token_shelf)


@pytest.mark.parametrize("debug", ["-d", "-ddd"])
def test_secrets_show_up_nowhere(token_shelf: Shelf, debug: str) -> None:
    source = token_shelf.put("new", NEW, f"{token_shelf.repository}-too")

    done = merge(source, token_shelf.ref("stable"), "--copy=skopeo", debug, *USERS, *PASSWORDS)

    assert is_merged(token_shelf)
    assert "DEBUG" in done.err
    for secret in (TOKEN_PASSWORD, LOGIN, "Bearer", "eyJ"):
        assert secret not in done.out + done.err


@pytest.mark.parametrize("prefix", ["quay.io/", ""], ids=["another host", "no host"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_references_may_name_another_host_than_the_one_to_connect_to(
    shelf: Shelf, prefix: str, scheme: str
) -> None:
    name, host = f"{prefix}{shelf.repository}", f"{scheme}{shelf.registry.host}"

    done = merge(f"{name}:new", f"{name}:stable", "--quay-host", host)

    assert is_merged(shelf)
    assert done.report["destination"] == f"{name}:stable"


def test_the_source_may_be_on_a_host_of_its_own(shelf: Shelf, token_shelf: Shelf) -> None:
    merge(
        f"quay.io/{shelf.repository}:new",
        f"quay.io/{token_shelf.repository}:stable",
        *("--quay-host", token_shelf.registry.url, "--dest-quay-user", TOKEN_USER),
        *("--source-quay-host", shelf.registry.url),
        env={"DEST_QUAY_PASSWORD": TOKEN_PASSWORD},
    )

    assert is_merged(token_shelf)


# Logins as other programs leave them

INDEX = make_index([make_image()])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("htpasswd"), passwords=True) as running:
        login = (TOKEN_USER, TOKEN_PASSWORD)
        upload(running.url, "team/app", INDEX, reference="1", credentials=login)
        yield running


@pytest.mark.parametrize("place", ["", "/team", "/team/app"])
@pytest.mark.parametrize("program", ["skopeo", "buildah"])
def test_who_logged_in_by_another_program_is_logged_in(
    program: str, place: str, guarded: RealRegistry, tmp_path: Path
) -> None:
    """For the registry, a namespace or a repository, in the file that the program chose."""
    variables = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    options = ["--tls-verify=false", "--username", TOKEN_USER, "--password-stdin"]
    subprocess.run(
        [require(program), "login", *options, f"{guarded.host}{place}"],
        env=environment(**variables),
        input=TOKEN_PASSWORD.encode(),
        check=True,
        capture_output=True,
    )

    done = run_here("inspect", f"{guarded.host}/team/app:1", env=variables)

    assert INDEX.digest in done.out, done.err


HELPER = f"""
read server
echo "$server" >"$0.asked"
echo '{{"Username": "{TOKEN_USER}", "Secret": "{TOKEN_PASSWORD}"}}'
"""


def test_a_helper_on_the_path_logs_in(guarded: RealRegistry, tmp_path: Path) -> None:
    """It is for docker and skopeo as well, and is asked in the same way."""
    helper = tmp_path / "docker-credential-tests"
    write_program(helper, HELPER)
    config = {"credHelpers": {guarded.host: "tests"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="ascii")
    variables = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{environment()['PATH']}"}

    done = run_here("inspect", f"{guarded.host}/team/app:1", env=variables)

    assert INDEX.digest in done.out, done.err
    assert Path(f"{helper}.asked").read_text("ascii") == f"{guarded.host}\n"
