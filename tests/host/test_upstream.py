"""What docs/upstream.rst asks of pubtools-quay fits the installed one."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from types import ModuleType

import pluggy
import pytest

from tests.pages import DOCS, blocks

PAGE = DOCS / "upstream.rst"
HOOKIMPL = pluggy.HookimplMarker("pubtools")


def proposed() -> pluggy.PluginManager:
    """Make a plugin manager that has the proposed hooks."""
    (code,) = (block.code for block in blocks(PAGE) if block.language == "python")
    module = ModuleType("proposed")
    exec(code, vars(module))  # noqa: S102 - our own page
    manager = pluggy.PluginManager("pubtools")
    manager.add_hookspecs(module)
    return manager


def test_the_page_is_short() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 120


def test_the_first_implementation_that_answers_decides() -> None:
    class Merging:
        @HOOKIMPL
        def quay_images_tagging(self, dest_refs: list[str]) -> list[str]:
            return dest_refs[1:]

        @HOOKIMPL
        def quay_images_signing(self, sign_entries: list[object]) -> list[object]:
            return [*sign_entries, "merged"]

    manager = proposed()
    call = {"push_item": None, "source_ref": "a:1", "dest_refs": ["b:1", "b:2"]}
    assert manager.hook.quay_images_tagging(**call, target_settings={}) is None

    manager.register(Merging())

    assert manager.hook.quay_images_tagging(**call, target_settings={}) == ["b:2"]
    signed = manager.hook.quay_images_signing(push_items=[], sign_entries=[], target_settings={})
    assert signed == ["merged"]


def test_the_hooks_have_no_names_that_are_taken() -> None:
    hooks = importlib.import_module("pubtools._quay.hooks")

    assert not {"quay_images_tagging", "quay_images_signing"} & vars(hooks).keys()


def source_of(name: str) -> str:
    """Read a part of the host in its file, as our classes may be in the place of its own."""
    module_name, _, path = name.partition(".")
    source = inspect.getsource(importlib.import_module(f"pubtools._quay.{module_name}"))
    for part in filter(None, path.split(".")):
        (found,) = (
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == part
        )
        source = textwrap.dedent(
            "\n".join(source.splitlines()[found.lineno - 1 : found.end_lineno])
        )
    return source


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("container_image_pusher.ContainerImagePusher.copy_v1_push_item", "self.run_tag_images("),
        (
            "container_image_pusher.ContainerImagePusher.copy_multiarch_push_item",
            "self.run_tag_images(",
        ),
        ("container_image_pusher.ContainerImagePusher.copy_source_push_item", "run_tag_images("),
        ("tag_docker.TagDocker.run", "self.tag_add_calculate_archs("),
        ("push_docker.PushDocker.run", "for signer in self.target_settings"),
        ("push_docker.mod_entry_point", "push.run()"),
        ("tag_docker.mod_entry_point", "tag_docker.run()"),
    ],
)
def test_the_places_of_the_calls_are_there(name: str, text: str) -> None:
    assert text in source_of(name)


@pytest.mark.parametrize("module", ["push_docker", "tag_docker"])
def test_the_entry_points_open_no_task_context(module: str) -> None:
    assert not re.search(r"\btask_context\b", source_of(module))
