"""The plugin that the documentation shows does what the page says, in the order of a real push."""

from __future__ import annotations

import importlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from attrs import define, field
from pubtools.pluggy import hookimpl, pm

import pubtools_mlmerge.plugin  # noqa: F401 - registers the hooks and the step
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotFound
from pubtools_mlmerge.host.clients import Sides
from pubtools_mlmerge.locks import lock_name
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import RegistryServer, upload_index
from tests.programs import python
from tests.pushes import begin, item, registered

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
NAME = "site_plugin"
INTERNAL = "ns/demo----app"  # as the host calls the repository demo/app


@define(eq=False)
class Push:
    """A push to a registry in memory; stands where the host does."""

    server: RegistryServer
    copied: list[list[str]] = field(factory=list)
    tagged: list[list[str]] = field(factory=list)

    def tag(self, name: str) -> Reference:
        return Reference.parse(f"{self.server.host}/{INTERNAL}:{name}")

    def read(self, name: str) -> Index:
        return RegistryClient(host=self.server.url).pull_index(self.tag(name))

    def run(self, *names: str) -> None:
        """Push what the tag 1.1 holds to tags."""
        client = RegistryClient(host=self.server.url)
        sides = Sides(client, client, lambda _, to: self.copied.append(list(map(str, to))))
        step = begin(sides, self.server.host, Settings())
        pushed = item(str(self.tag("1.1")), {"demo/app": names})
        step.push_item(pushed, lambda: self.copied.append(list(names)))

    @hookimpl
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        """Note the host's event, which the host is not here to declare."""
        self.tagged.append(dest_refs)


@pytest.fixture
def push(registry_server: RegistryServer) -> Iterator[Push]:
    """Start a registry; the tag stable has a platform that 1.1 lacks, the tag small has not."""
    for tag, platforms in (
        ("stable", ["linux/amd64", "linux/s390x"]),
        ("small", ["linux/amd64"]),
        ("1.1", ["linux/amd64", "linux/arm64"]),
    ):
        upload_index(registry_server.url, INTERNAL, tag, platforms)
    made = Push(registry_server)
    pm.register(made)
    yield made
    pm.unregister(made)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """Load the plugin as its entry point would; its files go to a directory of the test."""
    monkeypatch.setenv("SITE_MERGES", str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module = importlib.import_module(NAME)
    yield module
    pm.unregister(module)
    del sys.modules[NAME]


def journal(directory: Path) -> list[dict[str, object]]:
    """Read what the plugin wrote down."""
    lines = (directory / "journal").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_it_writes_down_what_was_kept(site: ModuleType, push: Push, tmp_path: Path) -> None:
    push.run("stable")

    tag, digest = str(push.tag("stable")), push.read("stable").digest
    (line,) = journal(tmp_path)
    assert line == {"tag": tag, "outcome": "merged", "digest": digest, "kept": ["linux/s390x"]}
    assert push.tagged == [[tag]]
    assert push.copied == []


def test_it_writes_down_what_the_host_copies(site: ModuleType, push: Push, tmp_path: Path) -> None:
    push.run("small")

    assert journal(tmp_path) == [{"tag": str(push.tag("small")), "outcome": "copied by the host"}]
    assert push.copied == [["small"]]


def test_it_writes_down_failures(site: ModuleType, push: Push, tmp_path: Path) -> None:
    push.server.delete_tag(INTERNAL, "1.1")

    with pytest.raises(NotFound):
        push.run("stable")

    assert journal(tmp_path) == [{"tag": str(push.tag("stable")), "outcome": "failed"}]


def test_a_frozen_repository_is_left_alone(site: ModuleType, push: Push, tmp_path: Path) -> None:
    (tmp_path / "frozen").write_text("demo/other\ndemo/app\n", encoding="utf-8")
    before = push.read("stable").digest

    with pytest.raises(site.FrozenError, match="demo/app is frozen"):
        push.run("stable", "small")

    assert push.read("stable").digest == before
    assert push.copied == []


REFERENCE = "localhost:5000/demo/app:stable"


def leases(directory: Path) -> list[tuple[str, str]]:
    """Read who holds what."""
    with closing(sqlite3.connect(directory / "leases.db")) as database:
        return list(database.execute("SELECT tag, holder FROM leases"))


def test_another_writer_gets_a_tag_only_when_it_was_given_back(
    site: ModuleType, tmp_path: Path
) -> None:
    other = site.Lease(REFERENCE)

    with pm.hook.mlmerge_lock(reference=REFERENCE) as held:
        assert not other.take()
        assert leases(tmp_path) == [(REFERENCE, held.holder)]

    assert leases(tmp_path) == []
    assert other.take()


def test_a_writer_that_died_keeps_a_tag_for_a_while_only(
    site: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "SECONDS", -1)
    dead, next_one = site.Lease(REFERENCE), site.Lease(REFERENCE)
    assert dead.take()

    assert next_one.take()
    with pytest.raises(site.LeaseLostError, match=REFERENCE):
        dead.check()


def test_a_lease_that_is_checked_is_renewed(site: ModuleType, tmp_path: Path) -> None:
    with pm.hook.mlmerge_lock(reference=REFERENCE) as held:
        assert site.execute("UPDATE leases SET until = until - 590")
        held.check()

        assert not site.execute("DELETE FROM leases WHERE until < ?", time.time() + 500)


def test_its_locks_are_held_during_the_push(site: ModuleType, push: Push, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    watched = Watching(lambda: seen.append([tag for tag, _ in leases(tmp_path)]))

    with registered(watched):
        push.run("stable", "small")

    assert seen == [[lock_name(str(push.tag(name))) for name in ("small", "stable")]]
    assert leases(tmp_path) == []


def test_every_task_loads_it_once_it_is_installed(tmp_path: Path) -> None:
    for name in ("pyproject.toml", f"{NAME}.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    setup = "from setuptools import setup; setup()"
    command = [sys.executable, "-W", "ignore", "-c", setup, "-q", "egg_info"]
    subprocess.run(command, cwd=tmp_path, check=True)

    done = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pubtools.pluggy import pm, task_context\n"
        "with task_context():\n"
        "    caller = pm.hook.mlmerge_merge\n"
        "    print(*[each.plugin_name for each in caller.get_hookimpls()])\n"
    )

    assert done.out.split() == ["pubtools_mlmerge.plugin", NAME], done.err


# What the page says about hooks in general


@define(eq=False)
class Watching:
    """Looks at something whenever a merge was uploaded."""

    look: Callable[[], None]

    @hookimpl
    def mlmerge_merged(self, report: Report) -> None:
        self.look()
