"""What stands at the edges of the host: signers, the operators' pusher, Quay's API, the hub."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from pubtools._quay.item_processor import SignEntry
from pubtools._quay.signer_wrapper import MsgSignerWrapper
from pubtools.pluggy import pm

from pubtools_mlmerge.host import seams
from tests.pages import DOCS, blocks

SIGNER = "recording-signer"
EARLY_SIGNER = "early-signer"
CLAIMS_SIGNER = "claims-signer"


class RecordingSigner:
    """Stands where the host keeps its signers, and notes what it is asked for."""

    label = SIGNER
    pre_push = False
    signed: ClassVar[list[SignEntry]] = []
    removed: ClassVar[list[tuple[str, str, str]]] = []

    def __init__(self, config_file: str, settings: Mapping[str, object]) -> None:
        self.settings = settings

    def sign_containers(self, entries: Sequence[SignEntry], task_id: str) -> None:
        """Note what is to be signed."""
        self.signed.extend(entries)

    def remove_signatures(
        self, outdated: Sequence[tuple[str, str, str]], _exclude: Sequence[object]
    ) -> None:
        """Note whose signatures are to go."""
        self.removed.extend(outdated)


class EarlySigner(RecordingSigner):
    """Signs before the push."""

    label = EARLY_SIGNER
    pre_push = True
    signed: ClassVar[list[SignEntry]] = []
    removed: ClassVar[list[tuple[str, str, str]]] = []


class ClaimsSigner(MsgSignerWrapper):  # type: ignore[misc]  # of an untyped package
    """The host's own signer that asks what is signed; who signs and who keeps it are replaced."""

    label = CLAIMS_SIGNER
    pre_push = False
    kept: ClassVar[list[dict[str, str]]] = []

    @property
    def entry_point(self) -> Callable[..., object]:
        """Sign."""

        def sign(digest: Sequence[str], reference: Sequence[str], **others: str) -> object:
            key = others["signing_key"] if "signing_key" in others else others["signing_keys"][0]
            claims = [
                {"manifest_digest": signed, "reference": name, "sig_key_id": key}
                for signed, name in zip(digest, reference)
            ]
            return {"signer_result": {"status": "ok"}, "claims": claims}

        return sign

    def _run_store_signed(self, signed: Mapping[str, Sequence[dict[str, str]]]) -> None:
        self.kept.extend(signed["claims"])

    def _fetch_signatures(self, digests: Sequence[str]) -> Iterator[dict[str, str]]:
        return (claim for claim in self.kept if claim["manifest_digest"] in digests)

    def remove_signatures(
        self, outdated: Sequence[tuple[str, str, str]], _exclude: Sequence[object]
    ) -> None:
        """Keep all."""


def no_bundles(*_: object) -> object:
    """Make a pusher of operators that finds no bundles: the host rolls everything back."""
    return SimpleNamespace(
        get_existing_index_images=lambda _: [],
        ensure_bundles_present=lambda: False,
        push_index_images=lambda *_: None,
    )


class Deletions:
    """Stands for Quay's own API, which docker-registry has not."""

    made: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, token: str, host: str) -> None:
        """Take what the host gives."""

    def delete_tag(self, repository: str, tag: str) -> None:
        """Note it."""
        self.made.append((repository, tag))


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
        lines = source.splitlines()[found.lineno - 1 : found.end_lineno]
        source = textwrap.dedent("\n".join(lines))
    return source


_COPY = "self.run_tag_images(source_ref, {}, True, self.target_settings)"
_TAGGING = """\
left = pm.hook.quay_images_tagging(push_item=push_item, source_ref=source_ref,
    dest_refs={0}, target_settings=self.target_settings)
if left is None or left:
    self.run_tag_images(source_ref, left or {0}, True, self.target_settings)
"""
_SIGNING = """\
signed = pm.hook.quay_images_signing(push_items=docker_push_items,
    sign_entries=to_sign_entries, target_settings=self.target_settings)
to_sign_entries = to_sign_entries if signed is None else signed
"""
_LOOP = 'for signer in self.target_settings["signing"]:'
_CHANGES = [
    ("container_image_pusher.ContainerImagePusher.copy_v1_push_item", "dest_refs"),
    (
        "container_image_pusher.ContainerImagePusher.copy_multiarch_push_item",
        "list(set(simple_dest_refs))",
    ),
    ("push_docker.PushDocker.run", ""),
]


def add_proposed_hooks(patch: pytest.MonkeyPatch) -> None:
    """Let the host call the hooks that docs/upstream.rst proposes, where that page says so."""
    (code,) = (b.code for b in blocks(DOCS / "upstream.rst") if b.language == "python")
    module = ModuleType("proposed")
    exec(code, vars(module))  # noqa: S102 - our own page
    pm.add_hookspecs(module)
    for name in ("quay_images_tagging", "quay_images_signing"):
        caller = getattr(pm.hook, name)
        spec, caller.spec = caller.spec, None
        patch.setattr(caller, "spec", spec)
    for name, references in _CHANGES:
        module_name, class_name, method = name.split(".")
        source = source_of(name)
        if references:
            call, added = _COPY.format(references), _TAGGING.format(references)
            before, found, after = source.partition(call)
        else:  # the last loop before the new manifests are signed
            before, _, after = source.partition("self.sign_new_manifests(")
            before, found, rest = before.rpartition(_LOOP)
            added, after = _SIGNING + found, f"{rest}self.sign_new_manifests({after}"
        indent = before.rpartition("\n")[2]
        assert found, name
        changed = before + added.replace("\n", f"\n{indent}").rstrip() + after
        host = importlib.import_module(f"pubtools._quay.{module_name}")
        namespace = {**vars(host), "pm": pm}
        exec(changed, namespace)  # noqa: S102 - the host's own code
        owner = seams._REPLACED["push_docker", class_name]
        patch.setattr(owner, method, namespace[method])
