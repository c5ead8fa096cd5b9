"""The seams, on modules that stand where the host's are."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple

import pytest

from pubtools_mlmerge.errors import HostMismatch
from pubtools_mlmerge.host import seams
from pubtools_mlmerge.host.seams import Seams, is_mentioned, problems

# The seams, on modules that stand where the host's are


PACKAGE = "pubtools._quay"


class PushDocker:
    """Shaped like the host's."""

    class ImageData(NamedTuple):
        """Shaped like the host's."""

        repo: str
        tag: str
        v2list_digest: str
        v2s2_digest: str
        v2s1_digest: str

    def __init__(
        self,
        push_items: list[object],
        hub: object,
        task_id: str,
        target_name: str,
        target_settings: dict[str, object],
    ) -> None:
        self.target_settings = target_settings

    def run(self) -> None: ...

    def sign_new_manifests(self, docker_push_items: object) -> None: ...

    def rollback(self, backup_tags: object, rollback_tags: object) -> None: ...

    def get_outdated_manifests(self, backup_tags: object) -> None: ...


class ContainerImagePusher:
    """Shaped like the host's."""

    def __init__(self, push_items: list[object], target_settings: dict[str, object]) -> None:
        self.target_settings = target_settings

    @classmethod
    def run_tag_images(
        cls, source_ref: str, dest_refs: object, all_arch: bool, target_settings: object
    ) -> None: ...

    def copy_multiarch_push_item(self, push_item: object, source_ml: object) -> None: ...

    def copy_v1_push_item(self, push_item: object) -> None: ...


class TagDocker(PushDocker):
    """Shaped like the host's."""

    def is_arch_relevant(self, push_item: object, arch: str) -> None: ...

    def tag_add_calculate_archs(self, push_item: object, tag: str, executor: object) -> None: ...

    def tag_remove_calculate_archs(self, push_item: object, tag: str, executor: object) -> None: ...

    def merge_manifest_lists_sign_images(
        self, push_item: object, tag: str, add_archs: object
    ) -> None: ...

    def manifest_list_remove_archs(
        self, push_item: object, tag: str, remove_archs: object
    ) -> None: ...


class ManifestListMerger:
    """Shaped like the host's."""

    def __init__(self, src_image: str, dest_image: str) -> None:
        self.images = (src_image, dest_image)

    def merge_manifest_lists_selected_architectures(self, eligible_archs: object) -> None: ...


Modules = Mapping[str, ModuleType]


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Modules:
    """Put modules in the place of the host's, and what derives from them out of the way."""
    for name in [name for name in os.environ if name.startswith("MLMERGE_")]:
        monkeypatch.delenv(name)
    package = ModuleType(PACKAGE)
    monkeypatch.setitem(sys.modules, PACKAGE, package)
    made = {}
    for name in ("push_docker", "tag_docker", "quay_client"):
        made[name] = ModuleType(f"{PACKAGE}.{name}")
        setattr(package, name, made[name])
        monkeypatch.setitem(sys.modules, f"{PACKAGE}.{name}", made[name])
    for name in ("host_push", "host_tag"):
        monkeypatch.delitem(sys.modules, f"pubtools_mlmerge.{name}", raising=False)
    push, tag = made["push_docker"], made["tag_docker"]
    for name in ("SignEntry", "SIGNER_BY_LABEL", "set_aws_kms_environment_variables"):
        setattr(push, name, object())
    setattr(push, "PushDocker", PushDocker)  # noqa: B010 - mypy knows no such attribute
    setattr(push, "ContainerImagePusher", ContainerImagePusher)  # noqa: B010 - as above
    setattr(tag, "TagDocker", TagDocker)  # noqa: B010 - as above
    setattr(tag, "ManifestListMerger", ManifestListMerger)  # noqa: B010 - as above
    setattr(tag, "get_internal_container_repo_name", object())  # noqa: B010 - as above
    setattr(made["quay_client"], "QuayClient", object())  # noqa: B010 - as above
    return made


def names_of(modules: Modules) -> list[object]:
    """List what the replaced names stand for."""
    push, tag = modules["push_docker"], modules["tag_docker"]
    found = [getattr(push, name, None) for name in ("PushDocker", "ContainerImagePusher")]
    return [*found, *(getattr(tag, name, None) for name in ("TagDocker", "ManifestListMerger"))]


def test_a_host_as_expected_has_no_problems(modules: Modules) -> None:
    assert problems() == ()


def without(name: str, method: str = "") -> Callable[[Modules, pytest.MonkeyPatch], None]:
    """Make a change to the host: a name is missing, in a module or in a class."""

    def change(modules: Modules, patch: pytest.MonkeyPatch) -> None:
        module, _, attribute = name.partition(".")
        if method:
            patch.delattr(getattr(modules[module], attribute), method)
        else:
            patch.delattr(modules[module], attribute)

    return change


def renamed(modules: Modules, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PushDocker, "rollback", lambda self, tags: None)


def no_class(modules: Modules, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(modules["push_docker"], "PushDocker", "PushDocker")


def no_module(modules: Modules, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, f"{PACKAGE}.tag_docker", None)


CHANGES = [
    (without("push_docker.PushDocker"), "push_docker.PushDocker is missing"),
    (no_class, "push_docker.PushDocker is missing"),
    (no_module, "tag_docker"),
    (without("push_docker.SignEntry"), "push_docker.SignEntry is missing"),
    (
        without("tag_docker.TagDocker", "is_arch_relevant"),
        "tag_docker.TagDocker.is_arch_relevant takes None",
    ),
    (renamed, "push_docker.PushDocker.rollback takes ('tags',)"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_what_changed_is_told(
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Modules, pytest.MonkeyPatch], None],
    told: str,
) -> None:
    change(modules, monkeypatch)

    assert any(told in problem for problem in problems())


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_a_host_that_changed_is_told_once_and_left_alone(
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Modules, pytest.MonkeyPatch], None],
    told: str,
) -> None:
    change(modules, monkeypatch)
    before, seams = names_of(modules), Seams()

    seams.install()
    seams.install()
    kept = [kind for kind in names_of(modules) if isinstance(kind, type)]
    assert all(kind.__module__ == __name__ for kind in kept)
    seams.remove()
    seams.remove()

    (line,) = caplog.messages
    assert line.startswith("No merging inside this pubtools-quay: ")
    assert told in line
    assert names_of(modules) == before


ASKING: list[tuple[dict[str, object], dict[str, str]]] = [
    ({"mlmerge": {"steps": ["push"]}}, {}),
    ({}, {"MLMERGE_STEPS": "push"}),
    ({"mlmerge": {"copy": "never"}}, {"MLMERGE_STEPS": "tag-docker"}),
]
NOT_ASKING: list[tuple[dict[str, object], dict[str, str]]] = [
    ({}, {}),
    ({"mlmerge": {"steps": []}}, {}),
    ({"mlmerge": {"steps": []}}, {"MLMERGE_STEPS": "push"}),
    ({}, {"MLMERGE_COPY": "never"}),
]


@pytest.mark.parametrize(("settings", "environment"), ASKING)
@pytest.mark.parametrize("named", [False, True])
def test_a_task_that_asked_gets_an_error_from_a_host_that_changed(
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    environment: dict[str, str],
    named: bool,
) -> None:
    monkeypatch.delattr(TagDocker, "is_arch_relevant")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seams = Seams()
    seams.install()
    pusher = names_of(modules)[1]
    assert callable(pusher)

    with pytest.raises(HostMismatch, match="is_arch_relevant"):
        pusher([], target_settings=settings) if named else pusher([], settings)

    seams.remove()


@pytest.mark.parametrize(("settings", "environment"), NOT_ASKING)
def test_a_task_that_did_not_ask_gets_the_host_as_it_is(
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    environment: dict[str, str],
) -> None:
    monkeypatch.delattr(TagDocker, "is_arch_relevant")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seams = Seams()
    seams.install()

    pusher, merger = names_of(modules)[1], names_of(modules)[3]
    assert callable(pusher)
    assert callable(merger)
    assert pusher([], settings).target_settings is settings
    if "MLMERGE_STEPS" not in environment:
        assert merger("a", "b").images == ("a", "b")

    seams.remove()


def test_ours_stand_in_while_somebody_needs_them(modules: Modules) -> None:
    before, seams = names_of(modules), Seams()

    seams.install()
    seams.install()
    seams.remove()
    between = names_of(modules)
    seams.remove()

    modules_of = [getattr(kind, "__module__", "") for kind in between]
    assert (
        modules_of
        == ["pubtools_mlmerge.host.push_docker"] * 2 + ["pubtools_mlmerge.host.tag_docker"] * 2
    )
    assert names_of(modules) == before


def test_what_others_replaced_is_left_to_them(
    modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    seams = Seams()

    seams.install()
    setattr(modules["tag_docker"], "TagDocker", str)  # noqa: B010 - mypy knows no such attribute
    seams.remove()

    assert names_of(modules) == [PushDocker, ContainerImagePusher, str, ManifestListMerger]
    assert caplog.messages == ["pubtools._quay.tag_docker.TagDocker was replaced by others"]


def test_where_ours_do_not_load_only_tasks_that_ask_suffer(
    modules: Modules, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pubtools_mlmerge.host.tag_docker", None)
    seams = Seams()

    seams.install()
    pusher = names_of(modules)[1]
    assert callable(pusher)
    pusher([], {})
    with pytest.raises(HostMismatch):
        pusher([], {"mlmerge": {"steps": ["push"]}})
    seams.remove()

    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    assert names_of(modules) == [PushDocker, ContainerImagePusher, TagDocker, ManifestListMerger]


def test_nothing_is_touched_where_no_host_is_loaded(
    modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seams = names_of(modules), Seams()
    monkeypatch.delitem(sys.modules, PACKAGE)

    seams.install()
    assert names_of(modules) == before
    seams.remove()

    assert names_of(modules) == before


def test_the_seams_of_the_process_are_unused_outside_of_tasks() -> None:
    assert seams.SEAMS._users == 0


# Activation: whether anything speaks of merging


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLMERGE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("settings", [{}, {"mlmerge": None}, {"mlmerge": {}}, {"quay_host": "q"}])
def test_nothing_speaks_of_it(settings: dict[str, object]) -> None:
    assert not is_mentioned(settings)


@pytest.mark.parametrize("mlmerge", [{"steps": []}, "wrong"])
def test_the_target_speaks_of_it(mlmerge: object) -> None:
    assert is_mentioned({"mlmerge": mlmerge})


def test_the_environment_speaks_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMERGE_STEPS", "push")

    assert is_mentioned({})
