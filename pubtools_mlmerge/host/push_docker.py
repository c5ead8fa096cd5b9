"""The push step: the host's push-docker classes with merging added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pubtools._quay import push_docker

from pubtools_mlmerge.host.push_step import PushStep
from pubtools_mlmerge.host.task import current_task, settings_for

if TYPE_CHECKING:
    from pubtools_mlmerge.host.push_step import Merged, Sides, Tag
    from pubtools_mlmerge.host.types import PushItem

_CURRENT: ContextVar[PushStep | None] = ContextVar("pubtools_mlmerge_push", default=None)


def _begin(target_settings: Mapping[str, object]) -> PushStep | None:
    """Start the step if the settings enable it; wrong settings come to light here."""
    settings = settings_for("push", target_settings)
    if settings is None:
        return None
    from pubtools_mlmerge.host.push_step import PushStep  # noqa: PLC0415 - see above

    return PushStep(settings, current_task())


class PushDocker(push_docker.PushDocker):  # type: ignore[misc]  # the host is untyped
    """The host's push; signs and takes back what the step merged."""

    def __init__(
        self,
        push_items: list[object],
        hub: object,
        task_id: str,
        target_name: str,
        target_settings: dict[str, object],
    ) -> None:
        self._merging = _begin(target_settings)
        super().__init__(push_items, hub, task_id, target_name, target_settings)

    def run(self) -> None:
        """Run the push; the pusher that it makes finds the step by the context."""
        token = _CURRENT.set(self._merging)
        try:
            super().run()
        finally:
            _CURRENT.reset(token)

    def sign_new_manifests(self, docker_push_items: list[object]) -> object:
        """Sign what the host signs, then the merged indexes."""
        signed = super().sign_new_manifests(docker_push_items)
        if self._merging is not None and self._merging.settings.sign:
            self._sign(self._merging.held)
        return signed

    def _sign(self, merged: tuple[Merged, ...]) -> None:
        """Sign as tag-docker does what was merged, as far as the host leaves it unsigned."""
        entries = [
            push_docker.SignEntry(
                repo=each.tag.repository,
                pub_reference=f"{registry}/{each.tag.repository}:{each.tag.reference.tag}",
                reference=f"quay.io/{each.tag.reference.repository}:{each.tag.reference.tag}",
                digest=digest,
                arch=architecture,
                signing_key=each.tag.signing_key,
            )
            for each in merged
            if each.tag.signing_key
            for digest, architecture in each.unsigned
            for registry in self.dest_registries
        ]
        if not entries:
            return
        push_docker.set_aws_kms_environment_variables(self.target_settings, "cosign_signer")
        for signer in self.target_settings["signing"]:
            signer_class = push_docker.SIGNER_BY_LABEL[signer["label"]]
            if signer["enabled"] and not signer_class.pre_push:
                made = signer_class(
                    config_file=signer["config_file"], settings=self.target_settings
                )
                made.sign_containers(entries, self.task_id)

    def rollback(
        self,
        backup_tags: Mapping[tuple[str, ...], object],
        rollback_tags: list[tuple[str, ...]],
    ) -> None:
        """Put merged tags back to their very bytes, and leave the others to the host.

        The host encodes documents anew, and takes an index that it does not know for a new tag.
        """
        if self._merging is None or not self._merging.merged:
            super().rollback(backup_tags, rollback_tags)
            return
        merged = self._merging.merged
        ours = {
            (each.tag.reference.repository, each.tag.reference.tag)
            for each in merged
            if each.previous is not None
        }
        anchors = [
            push_docker.PushDocker.ImageData(
                each.tag.reference.repository, each.report.anchor_tag, None, None, None
            )
            for each in merged
            if each.report.anchor_tag
        ]
        try:
            _restore(self, merged)
        finally:
            super().rollback(
                {data: old for data, old in backup_tags.items() if data[:2] not in ours},
                [data for data in rollback_tags if data[:2] not in ours] + anchors,
            )

    def get_outdated_manifests(
        self, backup_tags: Mapping[object, object]
    ) -> list[tuple[str, str, str]]:
        """List what is outdated, but nothing that a merged index still lists."""
        outdated: list[tuple[str, str, str]] = super().get_outdated_manifests(backup_tags)
        merged = self._merging.held if self._merging is not None else ()
        listed = {
            (digest, each.tag.reference.tag, each.tag.repository)
            for each in merged
            for digest in each.digests
        }
        return [entry for entry in outdated if entry not in listed]


class ContainerImagePusher(
    push_docker.ContainerImagePusher  # type: ignore[misc]  # the host is untyped
):
    """The host's pusher; merges where its copy would take something away."""

    def __init__(self, push_items: list[object], target_settings: dict[str, object]) -> None:
        super().__init__(push_items, target_settings)
        self._merging = _CURRENT.get() or _begin(target_settings)
        self._sides: Sides | None = None

    def copy_multiarch_push_item(self, push_item: PushItem, source_ml: object) -> None:
        """Merge a Docker manifest list into its destinations."""
        copy = super().copy_multiarch_push_item
        self._push(push_item, lambda: copy(push_item, source_ml))

    def copy_v1_push_item(self, push_item: PushItem) -> None:
        """Merge an OCI index, which the host takes for a v1 image, into its destinations."""
        copy = super().copy_v1_push_item
        source = push_item.metadata["pull_url"]
        if self._merging is None or not self._merging.is_index(self._make_sides(), source):
            copy(push_item)
            return
        self._push(push_item, lambda: copy(push_item))

    def _push(self, push_item: PushItem, copy_all: Callable[[], None]) -> None:
        if self._merging is None:
            copy_all()
            return
        source = push_item.metadata["pull_url"]
        self._merging.push(self._make_sides(), source, self._tags(push_item), copy_all)

    def _make_sides(self) -> Sides:
        from pubtools_mlmerge.host.clients import make_sides  # noqa: PLC0415 - see above

        if self._sides is None:
            self._sides = make_sides(self)
        return self._sides

    def _tags(self, push_item: PushItem) -> list[Tag]:
        from pubtools_mlmerge.host.clients import tags_of  # noqa: PLC0415 - see above

        return tags_of(self, push_item)


def _restore(push: PushDocker, merged: tuple[Merged, ...]) -> None:
    from pubtools_mlmerge.host.clients import restore  # noqa: PLC0415 - see above

    restore(push.dest_quay_client, merged)
