"""The ways in which tasks are started, each with the plugin enabled and not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from attrs import asdict
from pubtools._quay.exceptions import InvalidRepository
from pubtools._quay.merge_manifest_list import merge_manifest_list_main
from pubtools.pluggy import task_context

from pubtools_mlmerge.errors import InvalidSettings
from pubtools_mlmerge.host import seams
from tests.host.requests_made import Made
from tests.host.running import hub_of, program, push
from tests.host.world import BUILD, ON, REPOSITORY, THREE, TWO, Item, World, build
from tests.scripted import ScriptedServer, json_reply

Start = Callable[[str, list[Item], dict[str, object]], None]


@cache  # looking through all that is installed takes longer than a push
def _target(name: str) -> EntryPoint:
    (found,) = entry_points(group="target", name=name)
    return found


def by_the_host_alone(name: str, items: list[Item], settings: dict[str, object]) -> None:
    """Start as a task host does, by the name of an entry point, without a task context."""
    _target(name).load()(items, None, "1", "target", settings)


def by_our_target(name: str, items: list[Item], settings: dict[str, object]) -> None:
    by_the_host_alone(f"mlmerge-{name}", items, settings)


def in_a_task(name: str, items: list[Item], settings: dict[str, object]) -> None:
    with task_context():
        by_the_host_alone(name, items, settings)


def arrange(world: World, name: str) -> list[Item]:
    """Arrange for a task that a merge makes a difference to."""
    world.empty()
    world.fill()
    world.fill(source=BUILD)
    if name == "push-docker":
        return [world.new_item()]
    # With its name as the host knows it, the host itself takes this architecture.
    return [world.tag_item("a/app", source="build", add=["1"], archs=["arm64", "linux/amd64"])]


def requests_of(world: World) -> tuple[list[Made], list[Made]]:
    """List the requests of the host in order, and those of skopeo, which does several at once."""
    made = world.log.made()
    by_skopeo = sorted(each for each in made if each.is_by_skopeo)
    return [each for each in made if not each.is_by_skopeo], by_skopeo


@contextmanager
def unplugged() -> Iterator[None]:
    """Put the host's own names back."""
    replaced = seams._REPLACED
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), theirs in replaced.items():
            patch.setattr(f"pubtools._quay.{module}.{name}", theirs)
        yield


TASKS = pytest.mark.parametrize("task", ["push-docker", "tag-docker"])
STARTS = pytest.mark.parametrize("start", [in_a_task, by_our_target, by_the_host_alone])


@TASKS
@STARTS
def test_a_task_merges_where_that_is_enabled(world: World, start: Start, task: str) -> None:
    start(task, arrange(world, task), world.settings(ON))

    platforms, new = world.platforms(REPOSITORY, "1"), world.platforms("src/app", "new")
    assert set(platforms) == set(THREE)
    assert [p for p in TWO if platforms[p] == new[p]] == list(TWO)


@TASKS
@pytest.mark.parametrize(
    ("start", "mlmerge"),
    [
        (in_a_task, None),
        (by_our_target, None),
        (by_our_target, {"steps": []}),
        (by_the_host_alone, None),
    ],
    ids=["in a task", "our target", "no steps", "the host alone"],
)
def test_a_task_asks_what_the_host_asks_where_it_is_not(
    world: World, start: Start, task: str, mlmerge: object
) -> None:
    with unplugged():
        in_a_task(task, arrange(world, task), world.settings())
    expected, digest = requests_of(world), world.digest(REPOSITORY, "1")
    assert any(made.method == "PUT" for made in (*expected[0], *expected[1]))

    start(task, arrange(world, task), world.settings(mlmerge))

    assert requests_of(world) == expected
    assert world.digest(REPOSITORY, "1") == digest


@TASKS
def test_a_task_merges_where_the_environment_says_so(
    world: World, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLMERGE_STEPS", "push, tag-docker")
    monkeypatch.setenv("MLMERGE_ANCHOR_TAG", "")

    in_a_task(task, arrange(world, task), world.settings())

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert world.tags(REPOSITORY) == ["1", "build"]


@TASKS
@STARTS
def test_wrong_settings_come_to_light_before_the_first_request(
    world: World, start: Start, task: str
) -> None:
    items = arrange(world, task)
    wrong = {"steps": ["pull"], "copy": 3, "tag": "x", "keep": ["s390"]}

    with pytest.raises(InvalidSettings) as caught:
        start(task, items, world.settings(wrong))

    assert len(caught.value.problems) == 4
    assert world.log.made() == []


def merge_by_script(world: World) -> tuple[list[str], object]:
    """Merge by the host's own script."""
    world.fill(source=BUILD)
    source, target = f"{world.host}/{BUILD}", f"{world.host}/{REPOSITORY}:1"
    arguments = ["merge", "--source-ref", source, "--dest-ref", target]
    for side in ("source", "dest"):
        arguments += [f"--{side}-quay-user", side, f"--{side}-quay-password", "password"]
    merge_manifest_list_main(arguments)
    made = [f"{each.method} {each.path}" for each in world.log.made()]
    return made, world.digest(REPOSITORY, "1")


@pytest.mark.usefixtures("quay_io")
def test_the_host_s_script_does_the_same_with_the_plugin_and_without(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unplugged():
        expected = merge_by_script(world)

    assert merge_by_script(world) == expected
    monkeypatch.setenv("MLMERGE_STEPS", "push,tag-docker")
    assert merge_by_script(world) == expected
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


@pytest.mark.parametrize("deprecated", [True, False])
def test_pyxis_is_asked_as_ever(world: World, deprecated: bool) -> None:
    categories = ["Deprecated"] if deprecated else []
    with ScriptedServer(json_reply({"release_categories": categories})) as pyxis:
        settings = world.settings(
            ON,
            pyxis_server=pyxis.url,
            do_repo_deprecation_check=True,
            pyxis_ssl_cert=__file__,
            pyxis_ssl_key=__file__,
        )
        items = arrange(world, "push-docker")
        with pytest.raises(InvalidRepository) if deprecated else nullcontext():
            in_a_task("push-docker", items, settings)
        assert pyxis.received

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert (world.log.writes() == []) == deprecated


@pytest.mark.usefixtures("quay_io")
def test_a_push_wants_the_repository_on_the_stage_target_first(world: World) -> None:
    items = arrange(world, "push-docker")
    hub = hub_of(world)
    settings = world.settings(ON, propagated_from="stage")

    with pytest.raises(InvalidRepository):
        push(items, settings, hub)
    assert world.log.writes() == []

    world.put("stage/a----app", "1", build("new", *TWO))
    push(items, settings, hub)
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


# In processes of their own

TARGETS = """
import json, sys
import {first}
from importlib.metadata import entry_points
import pubtools_mlmerge.plugin
from tests.host.world import Item
given = json.load(sys.stdin)
for name, items in given["items"].items():
    (found,) = [e for e in entry_points(group="target") if e.name == name]
    found.load()([Item(**item) for item in items], None, "1", "target", given["settings"])
"""


@pytest.mark.parametrize("first", ["pubtools_mlmerge.plugin", "pubtools._quay.push_docker"])
def test_the_host_s_entry_points_merge_whatever_is_loaded_first(world: World, first: str) -> None:
    world.fill("1", "2")
    world.fill(source=BUILD)
    items = {
        "push-docker": [asdict(world.new_item())],
        "tag-docker": [asdict(world.tag_item("a/app", source="build", add=["2"], archs=[*TWO]))],
    }
    given = {"items": items, "settings": world.settings(ON, signing=[])}

    done = program(sys.executable, "-c", TARGETS.format(first=first), given=given)

    assert done.returncode == 0, done.stderr
    new = world.platforms("src/app", "new")
    for tag in ("1", "2"):
        platforms = world.platforms(REPOSITORY, tag)
        assert set(platforms) == set(THREE)
        assert [p for p in TWO if platforms[p] == new[p]] == list(TWO)


@pytest.mark.parametrize(
    ("variables", "is_refused"),
    [
        ({"MLMERGE_STEPS": "push"}, True),
        ({"MLMERGE_STEPS": "push", "MLMERGE_REPORT_ONLY": "yes"}, False),
        ({}, False),
    ],
)
def test_the_script_that_copies_is_refused_where_a_step_is_enabled(
    world: World, variables: dict[str, str], is_refused: bool
) -> None:
    world.fill()
    old, new = world.digest(REPOSITORY, "1"), world.digest("src/app", "new")
    script = str(Path(sys.executable).with_name("pubtools-quay-tag-image"))
    names = (f"{world.host}/src/app:new", f"{world.host}/{REPOSITORY}:1")
    references = ["--source-ref", names[0], "--dest-ref", names[1], "--all-arch"]
    login = ["--quay-user", "user", "--quay-password", "password"]

    done = program(script, *references, *login, **variables)

    assert (done.returncode != 0) == is_refused, done.stderr
    assert ("pubtools-mlmerge-merge" in done.stderr) == is_refused
    assert world.digest(REPOSITORY, "1") == (old if is_refused else new)
