"""The host's entry points and scripts, each in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from attrs import asdict

from tests.host.running import program
from tests.host.world import BUILD, ON, REPOSITORY, THREE, TWO, World

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
