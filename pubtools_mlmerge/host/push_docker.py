"""The push step's seams: the host's push-docker classes with merging added.

Each does what the host's does unless the target enables the step. Nothing of the engine is loaded
before that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Callable

from pubtools._quay import push_docker
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.host.task import refuse, settings_for

if TYPE_CHECKING:
    from pubtools_mlmerge.host.clients import PushItem
    from pubtools_mlmerge.host.push_step import PushStep, SignEntry

_CURRENT: ContextVar[PushDocker | None] = ContextVar("pubtools_mlmerge_push", default=None)
_STEPS: dict[int, PushStep] = {}  # by id of the push item, for hooks in threads of the host

_make_item_processor = push_docker.item_processor_for_internal_data


def _current_step() -> PushStep | None:
    task = _CURRENT.get()
    return None if task is None else task.push_step


class PushDocker(push_docker.PushDocker):  # type: ignore[misc]  # the host is untyped
    """The host's push; signs and takes back what the step merged."""

    run_tag_images = push_docker.ContainerImagePusher.run_tag_images

    push_step: PushStep | None = None

    def run(self) -> None:
        """Run the push; what the host makes for it finds the step by the context."""
        settings = settings_for("push", self.target_settings)
        token = _CURRENT.set(self)
        try:
            if settings is None:
                super().run()
                return
            from pubtools_mlmerge.host.clients import make_sides  # noqa: PLC0415 - the engine
            from pubtools_mlmerge.host.push_step import PushStep  # noqa: PLC0415 - as above

            step = PushStep(self, settings, self.push_items, make_sides(self, settings))
            self.push_step = step
            _STEPS.update((id(item), step) for item in self.push_items)
            with step.running():
                super().run()
                # Method names may fit and the host's behaviour may not.
                step.check_done([signer["label"] for signer in self._late_signers()])
        finally:
            for item in self.push_items:
                _STEPS.pop(id(item), None)
            _CURRENT.reset(token)

    def get_docker_push_items(self) -> list[PushItem]:
        """Look at the tags of the push, and refuse it, before anything is written."""
        items: list[PushItem] = super().get_docker_push_items()
        if self.push_step is not None:
            self.push_step.look(items)
        return items

    def sign_new_manifests(self, docker_push_items: list[PushItem]) -> object:
        """Sign what the host signs, then merged and OCI indexes, with what they list."""
        signed = super().sign_new_manifests(docker_push_items)
        claims = [] if _host_has("quay_images_signing") else self.claims()
        if claims:
            push_docker.set_aws_kms_environment_variables(self.target_settings, "cosign_signer")
            for signer in self._late_signers():
                signer_class = push_docker.SIGNER_BY_LABEL[signer["label"]]
                made = signer_class(
                    config_file=signer["config_file"], settings=self.target_settings
                )
                made.sign_containers(claims, self.task_id)
        return signed

    def claims(self) -> list[SignEntry]:
        """List what is to be signed of the tags whose content the host does not sign."""
        return [
            push_docker.SignEntry(
                repo=repository,
                pub_reference=f"{registry}/{repository}:{each.tag.tag}",
                # The host's own references to what is on Quay name it by this host.
                reference=f"quay.io/{str(each.tag).partition('/')[2]}",
                digest=digest,
                arch=architecture,
                signing_key=each.signing_key,
            )
            for each in (self.push_step.to_sign() if self.push_step is not None else ())
            for digest, architecture in each.to_sign
            for repository in each.repositories
            for registry in self.dest_registries
        ]

    def _late_signers(self) -> list[dict[str, str]]:
        """List the enabled signers that sign after the push."""
        return [
            signer
            for signer in self.target_settings["signing"]
            if signer["enabled"] and not push_docker.SIGNER_BY_LABEL[signer["label"]].pre_push
        ]

    def rollback(
        self,
        backup_tags: Mapping[tuple[str, ...], object],
        rollback_tags: list[tuple[str, ...]],
    ) -> None:
        """Restore existing tags to their exact bytes; the host deletes the new ones.

        The host encodes documents anew, and takes an OCI index that was there for a new tag.
        """
        step = self.push_step
        if step is None:
            super().rollback(backup_tags, rollback_tags)
            return
        before = step.before
        ours = {(r.repository, r.tag) for r, previous in before.items() if previous is not None}
        anchors = [
            push_docker.PushDocker.ImageData(
                report.destination.repository, report.anchor_tag, None, None, None
            )
            for report in step.merged
            if report.anchor_is_new
        ]
        try:
            step.restore()
        finally:
            super().rollback(
                {data: old for data, old in backup_tags.items() if data[:2] not in ours},
                [data for data in rollback_tags if data[:2] not in ours] + anchors,
            )

    def get_outdated_manifests(
        self, backup_tags: Mapping[tuple[str, ...], object]
    ) -> list[tuple[str, str, str]]:
        """List what is outdated, but nothing that a tag still lists."""
        held = self.push_step.listed if self.push_step is not None else {}
        listed = {(r.repository, r.tag, digest) for r, each in held.items() for digest in each}

        def is_listed(data: tuple[str, ...]) -> bool:
            repository, tag, *digests = data
            return any((repository, tag, digest) in listed for digest in digests)

        outdated = {data: old for data, old in backup_tags.items() if not is_listed(data)}
        found: list[tuple[str, str, str]] = super().get_outdated_manifests(outdated)
        return found


class ContainerImagePusher(
    push_docker.ContainerImagePusher  # type: ignore[misc]  # the host is untyped
):
    """The host's pusher; merges where its copy would take something away."""

    def __init__(self, push_items: list[PushItem], target_settings: dict[str, object]) -> None:
        super().__init__(push_items, target_settings)
        self.push_step = _current_step()
        if self.push_step is None:
            refuse("push", target_settings)

    def copy_multiarch_push_item(self, push_item: PushItem, source_ml: object) -> None:
        """Push a Docker manifest list."""
        self._push(push_item, partial(super().copy_multiarch_push_item, push_item, source_ml))

    def copy_v1_push_item(self, push_item: PushItem) -> None:
        """Push everything else that is no source container: OCI indexes, images, schema 1."""
        self._push(push_item, partial(super().copy_v1_push_item, push_item))

    def _push(self, push_item: PushItem, copy_all: Callable[[], None]) -> None:
        if self.push_step is None or _host_has("quay_images_tagging"):
            copy_all()
        else:
            self.push_step.push_item(push_item, copy_all)


class SecurityManifestPusher(
    push_docker.SecurityManifestPusher  # type: ignore[misc]  # the host is untyped
):
    """The host's pusher of security manifests; leaves out tags that hold an OCI index now."""

    def __init__(self, push_items: list[PushItem], target_settings: dict[str, object]) -> None:
        super().__init__(push_items, target_settings)
        self.push_step = _current_step()

    def push_manifest_list_security_manifests(self, item: PushItem, dir_path: str) -> None:
        """Attest the tags of an item that hold a Docker list, the only kind that the host knows."""
        if self.push_step is not None:
            item = copy.copy(item)
            item.metadata = {**item.metadata, "tags": self.push_step.docker_tags(item)}
        super().push_manifest_list_security_manifests(item, dir_path)


def item_processor_for_internal_data(*arguments: object, **named: object) -> object:
    """Make the host's maker of claims; it leaves out what a merged tag never held."""
    processor = _make_item_processor(*arguments, **named)
    step = _current_step()
    if step is not None:
        make = processor.generate_to_sign
        processor.generate_to_sign = lambda *of, **how: step.true_claims(make(*of, **how))
    return processor


# Hooks that a later host may have, as docs/upstream.rst proposes. Where it calls them, it needs
# no class of ours for what they do.


def _host_has(name: str) -> bool:
    hook = getattr(pm.hook, name, None)
    return hook is not None and hook.has_spec()


class _Hooks:
    @hookimpl(optionalhook=True)
    def quay_images_tagging(self, push_item: PushItem) -> list[str] | None:
        """Merge and copy a push item; nothing is left to copy."""
        step = _STEPS.get(id(push_item))
        if step is None:
            return None
        step.push_item(push_item)
        return []

    @hookimpl(optionalhook=True)
    def quay_images_signing(self, sign_entries: list[SignEntry]) -> list[SignEntry] | None:
        """Sign what merged tags hold, and not what they never held."""
        task = _CURRENT.get()
        if task is None or task.push_step is None:
            return None
        return [*task.push_step.true_claims(sign_entries), *task.claims()]


pm.register(_Hooks())
