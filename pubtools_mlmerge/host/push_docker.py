"""The push step's seams: the host's push-docker classes with merging added.

Each does what the host's does unless the target enables the step. Nothing of the engine is loaded
before that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Callable

from pubtools._quay import push_docker

from pubtools_mlmerge.host.task import refuse, settings_for

if TYPE_CHECKING:
    from pubtools_mlmerge.host.push_step import Held, PushStep, SignEntry
    from pubtools_mlmerge.host.types import PushItem

_CURRENT: ContextVar[PushStep | None] = ContextVar("pubtools_mlmerge_push", default=None)

_make_item_processor = push_docker.item_processor_for_internal_data


class PushDocker(push_docker.PushDocker):  # type: ignore[misc]  # the host is untyped
    """The host's push; signs and takes back what the step merged."""

    def __init__(
        self,
        push_items: list[PushItem],
        hub: object,
        task_id: str,
        target_name: str,
        target_settings: dict[str, object],
    ) -> None:
        self._push_step: PushStep | None = None
        settings = settings_for("push", target_settings)
        if settings is not None:
            from pubtools_mlmerge.host.push_step import PushStep  # noqa: PLC0415 - the engine

            self._push_step = PushStep(settings, push_items)
        super().__init__(push_items, hub, task_id, target_name, target_settings)

    def run(self) -> None:
        """Run the push; the pusher that it makes finds the step by the context."""
        token = _CURRENT.set(self._push_step)
        try:
            if self._push_step is None:
                super().run()
                return
            with self._push_step.running():
                super().run()
                # Method names may fit and the host's behaviour may not.
                self._push_step.check_done([s["label"] for s in self._late_signers()])
        finally:
            _CURRENT.reset(token)

    def get_docker_push_items(self) -> list[PushItem]:
        """Note which tags have to be judged until the end of the push."""
        items: list[PushItem] = super().get_docker_push_items()
        if self._push_step is not None:
            self._push_step.expect(self.quay_host, self.target_settings, items)
        return items

    def sign_new_manifests(self, docker_push_items: list[PushItem]) -> object:
        """Sign what the host signs, then merged indexes and OCI indexes, with what they list."""
        signed = super().sign_new_manifests(docker_push_items)
        if self._push_step is not None and self._push_step.settings.sign:
            held = [each for each in self._push_step.held if each.tag.signing_key]
            if held:
                self._sign(self._push_step, held)
        return signed

    def _sign(self, step: PushStep, held: Sequence[Held]) -> None:
        entries = [
            push_docker.SignEntry(
                repo=each.tag.repository,
                pub_reference=f"{registry}/{each.tag.repository}:{each.tag.reference.tag}",
                # The host's own references to what is on Quay name it by this host.
                reference=f"quay.io/{each.tag.reference.repository}:{each.tag.reference.tag}",
                digest=digest,
                arch=architecture,
                signing_key=each.tag.signing_key,
            )
            for each in held
            for digest, architecture in each.to_sign
            for registry in self.dest_registries
        ]
        push_docker.set_aws_kms_environment_variables(self.target_settings, "cosign_signer")
        for signer in self._late_signers():
            signer_class = push_docker.SIGNER_BY_LABEL[signer["label"]]
            made = signer_class(config_file=signer["config_file"], settings=self.target_settings)
            made.sign_containers(entries, self.task_id)
            step.note_signed(signer["label"], [each.tag for each in held])

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
        """Put the tags that were judged back to their very bytes, and leave the rest to the host.

        The host encodes documents anew, and takes an OCI index that was there for a new tag.
        """
        step = self._push_step
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
            if report.anchor_tag
        ]
        try:
            step.restore()
        finally:
            super().rollback(
                {data: old for data, old in backup_tags.items() if data[:2] not in ours},
                [data for data in rollback_tags if data[:2] not in ours] + anchors,
            )

    def get_outdated_manifests(
        self, backup_tags: Mapping[object, object]
    ) -> list[tuple[str, str, str]]:
        """List what is outdated, but nothing that a tag still lists."""
        outdated: list[tuple[str, str, str]] = super().get_outdated_manifests(backup_tags)
        held = self._push_step.held if self._push_step is not None else ()
        listed = {
            (digest, each.tag.reference.tag, each.tag.repository)
            for each in held
            for digest in each.listed
        }
        return [entry for entry in outdated if entry not in listed]


class ContainerImagePusher(
    push_docker.ContainerImagePusher  # type: ignore[misc]  # the host is untyped
):
    """The host's pusher; merges where its copy would take something away."""

    def __init__(self, push_items: list[PushItem], target_settings: dict[str, object]) -> None:
        super().__init__(push_items, target_settings)
        self._push_step = _CURRENT.get()
        settings = None if self._push_step else settings_for("push", target_settings)
        if settings is not None:
            refuse("push", settings)

    def copy_multiarch_push_item(self, push_item: PushItem, source_ml: object) -> None:
        """Push a Docker manifest list."""
        self._push(push_item, partial(super().copy_multiarch_push_item, push_item, source_ml))

    def copy_v1_push_item(self, push_item: PushItem) -> None:
        """Push everything else that is no source container: OCI indexes, images, schema 1."""
        self._push(push_item, partial(super().copy_v1_push_item, push_item))

    def _push(self, push_item: PushItem, copy_all: Callable[[], None]) -> None:
        if self._push_step is None:
            copy_all()
        else:
            self._push_step.push_item(self, push_item, copy_all)


class SecurityManifestPusher(
    push_docker.SecurityManifestPusher  # type: ignore[misc]  # the host is untyped
):
    """The host's pusher of security manifests; leaves out tags that hold an OCI index now."""

    def __init__(self, push_items: list[PushItem], target_settings: dict[str, object]) -> None:
        super().__init__(push_items, target_settings)
        self._push_step = _CURRENT.get()

    def push_manifest_list_security_manifests(self, item: PushItem, dir_path: str) -> None:
        """Attest the tags of an item that hold a Docker list, the only kind that the host knows."""
        if self._push_step is not None:
            tags = self._push_step.docker_tags(self.quay_host, self.target_settings, item)
            item = copy.copy(item)
            item.metadata = {**item.metadata, "tags": tags}
        super().push_manifest_list_security_manifests(item, dir_path)


def item_processor_for_internal_data(
    quay_client: object,
    internal_registry: str,
    external_registries: list[str],
    retry_sleep_time: int,
    internal_namespace: str,
) -> object:
    """Make the host's maker of claims; it leaves out what a merged tag never held."""
    processor = _make_item_processor(
        quay_client, internal_registry, external_registries, retry_sleep_time, internal_namespace
    )
    step = _CURRENT.get()
    if step is not None:
        make = processor.generate_to_sign

        def generate_to_sign(item: object, include_manifest_lists: bool = False) -> list[SignEntry]:  # noqa: FBT001, FBT002 - the host's signature
            claims: Iterable[SignEntry] = make(item, include_manifest_lists=include_manifest_lists)
            return step.true_claims(claims)

        processor.generate_to_sign = generate_to_sign
    return processor
