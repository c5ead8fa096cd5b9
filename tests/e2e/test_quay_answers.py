"""Programs against a Quay that gives tokens, locks accounts, or writes nothing."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.testing import RegistryServer, make_index
from tests.e2e.conftest import images, merged
from tests.programs import Done, put, run_here
from tests.quay import QuayDialect

ALICE, NAME, TAGS = ("alice", "wonderland"), "alice/app", [f"v{number}" for number in range(12)]
OLD, NEW = images("linux/amd64", "linux/s390x", seed="old"), images("linux/amd64", seed="new")


def serve(dialect: QuayDialect) -> RegistryServer:
    return RegistryServer(dialect=dialect, auth="token", users=dict([ALICE]))


def merge(server: RegistryServer, *tags: str, password: str = ALICE[1]) -> Done:
    """Merge into some tags, which are there."""
    for tag in tags:
        put(server, tag, make_index(OLD), NAME)
    put(server, "new", make_index(NEW), NAME)
    place = f"{server.host}/{NAME}"
    names = [f"{place}:{tag}" for tag in tags]
    return run_here(
        *("merge", "--source-ref", f"{place}:new", "--dest-ref", ",".join(names)),
        *("--source-quay-user", ALICE[0], "--dest-quay-user", ALICE[0]),
        env={"SOURCE_QUAY_PASSWORD": password, "DEST_QUAY_PASSWORD": password},
    )


def test_the_union_takes_one_token_and_three_requests() -> None:
    with serve(QuayDialect()) as server:
        assert merge(server, "stable").code == 0
        asked = [f"{r.method} {r.path} {r.status}" for r in server.requests]
        assert server.manifest(NAME, "stable").content == merged(*NEW, OLD[1])

    challenged, token, *pulls, look, write, check = asked
    assert challenged.endswith(" 401")
    assert token == "GET /v2/auth 200"
    tag = f"/v2/{NAME}/manifests/stable"
    assert sorted(pulls) == [f"GET /v2/{NAME}/manifests/new 200", f"GET {tag} 200"]
    assert [look, write, check] == [f"HEAD {tag} 200", f"PUT {tag} 201", f"HEAD {tag} 200"]


def test_a_wrong_password_locks_no_account_whatever_the_number_of_tags() -> None:
    """One failure is forgotten after two seconds, twelve after more than an hour."""
    with serve(QuayDialect()) as server:
        done = merge(server, *TAGS, password="wrong")
        tried = [r.status for r in server.requests if r.path == "/v2/auth"]

    assert done.code == 1
    assert tried == [401]
    said = [f"the login of alice from --{side}-creds" for side in ("src", "dest")]
    assert sum(map(done.err.count, said)) >= len(TAGS)


@pytest.mark.parametrize(
    ("dialect", "problem"),
    [
        (QuayDialect(read_only=NAME), f"this login may not write to the repository {NAME}"),
        (
            QuayDialect(caches=NAME),
            "registry accepts writes and ignores them, as a proxy cache",
        ),
    ],
    ids=["read-only", "cache"],
)
def test_a_repository_that_takes_no_writes_is_named(dialect: QuayDialect, problem: str) -> None:
    with serve(dialect) as server:
        done = merge(server, "stable")

        assert server.manifest(NAME, "stable").content == make_index(OLD).content
    assert done.code == 1
    assert problem in done.err
