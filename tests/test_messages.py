"""What each error says on the real program: the reference, what is wrong, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest
from attrs import define

from pubtools_mlmerge import errors, tasks
from pubtools_mlmerge.cli.parsers import inspect_main, merge_main, remove_archs_main, restore_main
from pubtools_mlmerge.errors import MergeError
from pubtools_mlmerge.locks import tag_lock
from pubtools_mlmerge.merging.api import merge_tags
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import digest
from tests.programs import call, put, write_program
from tests.scripted import Reply, ScriptedServer, manifest_reply, refusal
from tests.test_ending import Gate, is_put

OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])
DOCKER = make_index([make_image("linux/s390x", docker=True)], docker=True)
NESTED = make_index([make_image("linux/arm64"), OLD])
SETTINGS = {"mlmerge": {"steps": ["push"]}}

# Only a task of the host raises these; a test with the real host shows each.
IN_THE_HOST: dict[type[MergeError], str] = {
    errors.CannotMergeHere: "host/test_seams.py",
    errors.PushFailed: "host/test_rollback.py",
    errors.StepNotDone: "host/test_postcondition.py",
}

pytestmark = pytest.mark.usefixtures("no_variables")


@define
class Case:
    """Where a program runs."""

    server: RegistryServer
    path: Path
    stack: ExitStack
    patch: pytest.MonkeyPatch

    @property
    def app(self) -> str:
        """The repository, which holds the tags old and new."""
        return f"{self.server.host}/app"

    def merge(self, *options: str, app: str = "") -> int:
        app = app or self.app
        references = ("--source-ref", f"{self.app}:new", "--dest-ref", f"{app}:old")
        return call(merge_main, *references, *options)

    def front(self, *steps: Reply | Gate) -> str:
        """Start another registry, and name a repository of it."""
        return f"{self.stack.enter_context(ScriptedServer(*steps)).host}/app"

    def inspect(self, *steps: Reply | Gate) -> int:
        return call(inspect_main, f"{self.front(*steps)}:old")

    def remove(self, arch: str, tag: str = "old") -> int:
        return call(remove_archs_main, "--ref", f"{self.app}:{tag}", "--arch", arch)

    def put(self, content: bytes, media_type: str = NEW.media_type) -> str:
        self.server.put_manifest("app", "odd", content, media_type)
        return f"{self.app}:odd"


def merges_failed(case: Case) -> NoReturn:
    merge_tags(f"{case.app}:new", [f"{case.app}:old", case.put(b"{")])
    raise AssertionError


def invalid_credentials(case: Case) -> int:
    (case.path / "auth.json").write_text("{", encoding="ascii")
    case.patch.setenv("REGISTRY_AUTH_FILE", str(case.path / "auth.json"))
    return not_authorized(case)


def invalid_settings(case: Case) -> int:
    case.patch.setenv("MLMERGE_COPY", "docker")
    return case.merge()


def mixed_types(case: Case) -> int:
    put(case.server, "old", DOCKER)
    return case.merge("--mixed-types", "fail")


def sources_differ(case: Case) -> int:
    return case.merge("--source-ref", f"{case.app}:old", "--strict")


def shrinks(case: Case) -> int:
    put(case.server, "new", make_image())
    return case.merge("--single-image", "replace")


def nested_index(case: Case) -> int:
    put(case.server, "nested", NESTED)
    return case.remove("amd64", "nested")


def not_authorized(case: Case) -> int:
    closed = case.stack.enter_context(RegistryServer(auth="basic", users={"alice": "x"}))
    return call(inspect_main, f"{closed.host}/app:old")


def immutable(case: Case) -> int:
    fixed = case.stack.enter_context(RegistryServer(immutable_tags=["old"]))
    for tag, item in (("old", OLD), ("new", NEW)):
        put(fixed, tag, item)
    return case.merge("--copy", "skopeo", app=f"{fixed.host}/app")


def copy_failed(case: Case) -> int:
    other = case.stack.enter_context(RegistryServer())
    write_program(case.path / "skopeo", "echo no such blob >&2; exit 1")
    case.patch.setenv("PATH", str(case.path), prepend=":")
    return case.merge("--copy", "skopeo", app=f"{other.host}/app")


def missing_child(case: Case) -> int:
    other = case.stack.enter_context(RegistryServer())
    return case.merge("--copy", "never", app=f"{other.host}/app")


def conflict(case: Case) -> int:
    """Let another program write between our write and the look at it."""
    gate = Gate(case.server, lambda _: False)
    gate.after = lambda request: put(case.server, "old", DOCKER) if is_put(request) else None
    return case.merge("--tries", "1", app=case.front(gate))


def lock_lost(case: Case) -> int:
    def remove_locks(_: object) -> None:
        for lock in case.path.glob("*.lock"):
            lock.unlink()

    gate = Gate(case.server, lambda _: False, before=remove_locks)
    return case.merge("--lock", case.path.as_uri(), app=case.front(gate))


def lock_failed(case: Case) -> int:
    case.stack.enter_context(tag_lock(f"{case.app}:old", case.path.as_uri()))
    return case.merge("--lock", f"{case.path.as_uri()}?wait=0")


def out_of_time(case: Case) -> int:
    busy = case.front(Reply(429, {"Retry-After": "60"}))
    return call(inspect_main, f"{busy}:old", "--timeout", "0.2")


def cannot_restore(case: Case) -> int:
    assert case.merge("--audit", str(case.path)) == 0
    put(case.server, "old", DOCKER)
    return call(restore_main, *map(str, case.path.glob("*.json")))


def host_mismatch(_: Case) -> int:
    """There is no host here."""
    with pytest.raises(errors.HostMismatch) as caught:
        tasks.push_docker([], "hub", "1", "target", {**SETTINGS})
    raise caught.value


Run = Callable[[Case], int]
WRONG = digest("something else")

# For each error how it comes about, and what it says: APP stands for the repository of the tags.
TABLE: dict[type[MergeError], tuple[Run, list[str]]] = {
    errors.InvalidReference: (
        lambda case: call(inspect_main, case.app),
        ["invalid reference 'APP'", "missing :tag or @digest"],
    ),
    errors.InvalidPlatform: (
        lambda case: case.merge("--keep", "s390"),
        ["invalid platform 's390'", "unknown architecture", "write linux/s390"],
    ),
    errors.InvalidIndex: (
        lambda case: call(inspect_main, case.put(b'{"schemaVersion": 2, "manifests": 1}')),
        ["APP:odd", "manifests: expected an array", "build and push the image again"],
    ),
    errors.NotAnIndex: (
        lambda case: call(
            remove_archs_main, "--ref", put(case.server, "single", make_image()), "--arch", "arm64"
        ),
        ["APP:single holds", "expected an image index", "name a multi-arch image"],
    ),
    errors.MixedTypes: (
        mixed_types,
        ["APP:old", "would mix Docker manifests", "--mixed-types oci"],
    ),
    errors.SourcesDiffer: (
        sources_differ,
        ["earlier source has a different image for linux/amd64 of APP:old", "omit --strict"],
    ),
    errors.NestedIndex: (
        nested_index,
        ["APP:nested", "cannot be split", "match linux/amd64, not", "name all, or none"],
    ),
    errors.EmptyIndex: (
        lambda case: case.remove("*"),
        ["APP:old", "removing * would leave an empty index", "--allow-empty"],
    ),
    errors.NothingEligible: (
        lambda case: case.merge("--dest-ref", f"{case.app}:absent", "--arch", "riscv64"),
        ["APP:new has none of riscv64", "name architectures that the source has"],
    ),
    errors.DigestMismatch: (
        lambda case: case.inspect(
            manifest_reply(OLD.content, OLD.media_type, Docker_Content_Digest=WRONG)
        ),
        [":old", OLD.digest, f"expected {WRONG}", "run it again"],
    ),
    errors.RegistryError: (
        lambda case: case.inspect(refusal(400, "UNSUPPORTED", "not here")),
        [":old: the request failed (HTTP 400)", "not here", "run it again later"],
    ),
    errors.NotFound: (
        lambda case: call(inspect_main, f"{case.app}:absent"),
        ["APP:absent: not found (HTTP 404)", "check the name"],
    ),
    errors.Unauthorized: (
        not_authorized,
        ["/app:old: not authorized (HTTP 401)", "check the name and the login"],
    ),
    errors.Forbidden: (
        lambda case: case.inspect(refusal(403, "DENIED", "not for you")),
        [":old: forbidden (HTTP 403)", "not for you", "use a login with this permission"],
    ),
    errors.ImmutableTag: (
        immutable,
        ["/app:old: the tag is immutable", "use another tag, or change the rule"],
    ),
    errors.AnchorTaken: (
        lambda case: case.merge("--anchor-tag", "new"),
        ["/app:new: the anchor tag exists and holds sha256:", "choose another name"],
    ),
    errors.MissingChild: (
        missing_child,
        ["/app:old: the repository lacks sha256:", "copying is disabled", "--copy auto"],
    ),
    errors.CopyFailed: (
        copy_failed,
        ["cannot copy APP@sha256:", "no such blob", "fix that, and run it again"],
    ),
    errors.InvalidCredentials: (
        invalid_credentials,
        ["credentials in ", "auth.json", "is not JSON", "or give a user and password"],
    ),
    errors.InvalidSettings: (
        invalid_settings,
        ["MLMERGE_COPY: expected auto or skopeo or never"],
    ),
    errors.HostMismatch: (
        host_mismatch,
        ["cannot merge inside this pubtools-quay", "install a tested version"],
    ),
    errors.MergesFailed: (
        merges_failed,
        ["1 of 2 merges failed: APP:odd: ", "build and push the image again"],
    ),
    errors.ConflictError: (
        conflict,
        ["/app:old: another program writes this tag", "expected sha256:", "with a lock"],
    ),
    errors.OutOfTime: (out_of_time, [":old: not done within 0.2 seconds", "--timeout"]),
    errors.ShrinkError: (
        shrinks,
        ["APP:old would lose linux/s390x", "add --drop linux/s390x,"],
    ),
    errors.PatternFitsNothing: (
        lambda case: case.merge("--keep", "arm64"),
        ["APP:old: keep arm64 matches none", "linux/amd64, linux/s390x", "correct the name"],
    ),
    errors.StaleImages: (
        lambda case: case.merge("--max-age-days", "1", "--stale", "fail"),
        ["APP:old would keep images that are too old: linux/s390x", "stale=warn"],
    ),
    errors.LockFailed: (
        lock_failed,
        ["APP:old: cannot lock this tag: another thread holds it", "run it again"],
    ),
    errors.LockLost: (
        lock_lost,
        ["/app:old: the lock of this tag was lost, so it was not written", "run it again"],
    ),
    errors.InvalidRecord: (
        lambda case: call(restore_main, str(case.path)),
        [": not a record of a change: Is a directory", "name a record that --audit wrote"],
    ),
    errors.RecordFailed: (
        lambda case: case.merge("--audit", "/proc/self/audit"),
        [
            "APP:old: not written, as the change cannot be recorded in /proc/",
            "fix that, and run it again",
        ],
    ),
    errors.CannotRestore: (
        cannot_restore,
        ["APP:old: not restored: it was changed since", "--force"],
    ),
}


@pytest.fixture
def case(registry_server: RegistryServer, tmp_path: Path) -> Iterator[Case]:
    for tag, item in (("old", OLD), ("new", NEW)):
        put(registry_server, tag, item)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        yield Case(registry_server, tmp_path, stack, patch)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_an_error_names_the_reference_what_is_wrong_and_what_to_do(
    kind: type[MergeError],
    case: Case,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, words = TABLE[kind]
    text = ""
    try:
        assert run(case) in (1, 2)
    except kind as error:
        text = str(error)
    text = text or capsys.readouterr().err + "\n".join(caplog.messages[-1:])

    assert [word for word in words if word.replace("APP", case.app) not in text] == [], text
    assert text.splitlines()[-1].isprintable()


def test_every_kind_of_error_is_in_the_table() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    ours = {kind for kind in kinds if issubclass(kind, MergeError)} - {MergeError}

    assert {*TABLE, *IN_THE_HOST} == ours
    for kind, file in IN_THE_HOST.items():
        assert kind.__name__ in Path(__file__).parent.joinpath(file).read_text(encoding="utf-8")


def test_an_unknown_variable_is_a_warning_that_names_it(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.patch.setenv("MLMERGE_KEEPS", "amd64")

    assert case.merge() == 0

    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("MLMERGE_KEEPS" in line for line in warnings)
