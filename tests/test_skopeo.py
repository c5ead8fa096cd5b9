"""Copies by skopeo: what it is told, and what it is not told in public."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import CopyFailed
from pubtools_mlmerge.registry import copying
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.registry.client import Place
from pubtools_mlmerge.registry.http import ConnectOptions
from tests.factories import digest

CHILD = digest("child")
SOURCE = Reference("quay.io", "from/app", digest=CHILD)
DESTINATION = Reference("quay.io", "to/app", digest=CHILD)
ALICE = Credentials("alice", "wonder:land")
RECORD = """
import json, os, sys
options = [a.partition("=")[2] for a in sys.argv if "=" in a]
paths = [p for p in options if os.path.exists(p)]
paths += [os.path.join(p, name) for p in paths if os.path.isdir(p) for name in os.listdir(p)]
seen = {p: [os.stat(p).st_mode & 0o777, os.path.isfile(p) and open(p).read()] for p in paths}
folder = {p: os.stat(os.path.dirname(p)).st_mode & 0o777 for p in paths}
json.dump([sys.argv[1:], seen, folder, sys.stdin.read()], open(os.environ["RECORD"], "w"))
"""


@frozen
class Fake:
    """A skopeo that writes down how it was called."""

    record: Path

    def __iter__(self) -> Iterator[object]:
        """Give arguments, files with their modes, and what was on standard input."""
        found = json.loads(self.record.read_text())
        assert isinstance(found, list)
        return iter(found)

    @property
    def arguments(self) -> list[str]:
        """The command line without the name of the program."""
        found = json.loads(self.record.read_text())[0]
        assert isinstance(found, list)
        return found

    def file(self, option: str) -> tuple[str, int, object]:
        """Return path, mode and content of the file that an option named."""
        (path,) = (a.partition("=")[2] for a in self.arguments if a.startswith(option))
        mode, content = json.loads(self.record.read_text())[1][path]
        return path, mode, content


def install(directory: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a program named skopeo on PATH, and nothing else."""
    script = directory / "bin" / "skopeo"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable} -ISE\n{code}")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setenv("RECORD", str(directory / "record"))
    return Fake(directory / "record")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return install(tmp_path, RECORD, monkeypatch)


def place(
    host: str = "registry.test",
    *,
    plain: bool = False,
    credentials: Credentials | None = None,
    ca_bundle: Path | None = None,
    insecure: bool = False,
) -> Place:
    options = ConnectOptions(ca_bundle=str(ca_bundle) if ca_bundle else None, insecure=insecure)
    return Place(host, plain, options, credentials)


def test_everything_is_copied_under_the_same_digest(fake: Fake) -> None:
    copying.copy(SOURCE, place("one.test"), DESTINATION, place("two.test:5000"))

    assert fake.arguments == [
        *("copy", "--quiet", "--all", "--preserve-digests"),
        f"docker://one.test/from/app@{CHILD}",
        f"docker://two.test:5000/to/app@{CHILD}",
    ]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_login_goes_into_a_file_that_only_this_user_may_read(fake: Fake, umask: int) -> None:
    before = os.umask(umask)
    try:
        copying.copy(SOURCE, place(), DESTINATION, place("two.test", credentials=ALICE))
    finally:
        os.umask(before)

    path, mode, content = fake.file("--dest-authfile")
    assert mode == 0o600
    entry = json.loads(str(content))["auths"]["two.test"]
    assert b64decode(entry["auth"]) == b"alice:wonder:land"
    assert not any(option.startswith("--src-authfile") for option in fake.arguments)
    _, _, folders, stdin = fake
    assert isinstance(folders, dict)
    assert folders[path] == 0o700
    assert stdin == ""
    assert not Path(path).exists()


def test_no_secret_is_on_the_command_line(fake: Fake) -> None:
    at, to = place(credentials=ALICE), place("two.test", credentials=Credentials("bob", "builder"))

    copying.copy(SOURCE, at, DESTINATION, to)

    shown = " ".join(fake.arguments)
    for secret in ("alice", "wonder:land", "bob", "builder", ALICE.basic.split()[1]):
        assert secret not in shown
    assert fake.file("--src-authfile")[0] != fake.file("--dest-authfile")[0]


@pytest.mark.parametrize(("plain", "insecure"), [(True, False), (False, True), (True, True)])
def test_each_side_is_verified_or_not_by_itself(fake: Fake, plain: bool, insecure: bool) -> None:
    copying.copy(SOURCE, place(plain=plain, insecure=insecure), DESTINATION, place("two.test"))

    options = [a for a in fake.arguments if "tls" in a]
    assert options == ["--src-tls-verify=false"]


def test_authorities_are_handed_on(fake: Fake, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("an authority")
    at, to = place(plain=True, ca_bundle=bundle), place("two.test", ca_bundle=bundle)

    copying.copy(SOURCE, at, DESTINATION, to)

    (option,) = (a for a in fake.arguments if "cert-dir" in a)
    name, _, directory = option.partition("=")
    _, seen, _, _ = fake
    assert isinstance(seen, dict)
    assert name == "--dest-cert-dir"
    assert seen[f"{directory}/authorities.crt"][1] == "an authority"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_of_the_environment_are_handed_on(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("an authority")
    monkeypatch.setenv(variable, str(bundle))

    copying.copy(SOURCE, place(), DESTINATION, place("two.test"))

    assert [a.partition("=")[0] for a in fake.arguments if "cert-dir" in a] == [
        *("--src-cert-dir", "--dest-cert-dir")
    ]


def test_what_skopeo_says_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "import sys; sys.exit('no such\\nblob')", monkeypatch)

    with pytest.raises(CopyFailed) as caught:
        copying.copy(SOURCE, place(), DESTINATION, place("two.test"))

    assert str(caught.value) == f"cannot copy {SOURCE} to {DESTINATION}: no such blob"


def test_a_silent_failure_is_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "import sys; sys.exit(3)", monkeypatch)

    with pytest.raises(CopyFailed, match="skopeo failed"):
        copying.copy(SOURCE, place(), DESTINATION, place("two.test"))


def test_its_absence_is_reported_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CopyFailed, match="skopeo is not installed") as caught:
        copying.copy(SOURCE, place(credentials=ALICE), DESTINATION, place("two.test"))

    assert "wonder" not in str(caught.value)
