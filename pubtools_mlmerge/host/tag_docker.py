"""The tag-docker step's seams: the host's tag-docker classes with merging added.

Each does what the host's does unless the target enables the step. Nothing of the engine is loaded
before that.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from pubtools._quay import tag_docker

from pubtools_mlmerge.host.task import refuse, settings_for

if TYPE_CHECKING:
    from pubtools_mlmerge.host.tag_step import TagDockerStep
    from pubtools_mlmerge.host.types import PushItem

_IS_OURS: ContextVar[bool] = ContextVar("pubtools_mlmerge_tag_docker", default=False)
_STEP: ContextVar[TagDockerStep | None] = ContextVar("pubtools_mlmerge_tag_step", default=None)


class TagDocker(tag_docker.TagDocker):  # type: ignore[misc]  # the host is untyped
    """The host's tag-docker; knows platforms, attestations and OCI indexes."""

    def __init__(
        self,
        push_items: list[PushItem],
        hub: object,
        task_id: str,
        target_name: str,
        target_settings: dict[str, object],
    ) -> None:
        self._tag_step: TagDockerStep | None = None
        settings = settings_for("tag-docker", target_settings)
        if settings is not None:
            from pubtools_mlmerge.host.tag_step import TagDockerStep  # noqa: PLC0415 - the engine

            self._tag_step = TagDockerStep(settings, push_items)
        super().__init__(push_items, hub, task_id, target_name, target_settings)

    @property
    def quay_client(self) -> object:
        """The host's client; while a merge is under way, its upload is ours."""
        host_client = super().quay_client
        selection = self._tag_step.selection if self._tag_step is not None else None
        return host_client if selection is None else selection.guard(host_client)

    def run(self) -> object:
        """Run the task."""
        is_ours, step = _IS_OURS.set(True), _STEP.set(self._tag_step)
        try:
            if self._tag_step is None:
                return super().run()
            with self._tag_step.running():
                return super().run()
        finally:
            _STEP.reset(step)
            _IS_OURS.reset(is_ours)

    def is_arch_relevant(self, push_item: PushItem, arch: str) -> object:
        """Accept other spellings of an architecture."""
        host = partial(super().is_arch_relevant, push_item, arch)
        if self._tag_step is None:
            return host()
        return self._tag_step.is_relevant(push_item, arch, host)

    def tag_add_calculate_archs(self, push_item: PushItem, tag: str, executor: object) -> object:
        """List the platforms of the source that are to be added, or let the host do it."""
        host = partial(super().tag_add_calculate_archs, push_item, tag, executor)
        if self._tag_step is None:
            return host()
        return self._tag_step.added(self, push_item, tag, host)

    def tag_remove_calculate_archs(self, push_item: PushItem, tag: str, executor: object) -> object:
        """List the platforms to remove and those that stay, or let the host do it."""
        host = partial(super().tag_remove_calculate_archs, push_item, tag, executor)
        if self._tag_step is None:
            return host()
        return self._tag_step.removed(self, push_item, tag, host)

    def merge_manifest_lists_sign_images(
        self, push_item: PushItem, tag: str, add_archs: list[str]
    ) -> None:
        """Merge and sign; the list is computed and written by our step."""
        host = partial(super().merge_manifest_lists_sign_images, push_item, tag, add_archs)
        if self._tag_step is None:
            host()
        else:
            self._tag_step.merge(self, push_item, tag, host)

    def manifest_list_remove_archs(
        self, push_item: PushItem, tag: str, remove_archs: list[str]
    ) -> None:
        """Remove platforms, with their attestations and signatures."""
        host = partial(super().manifest_list_remove_archs, push_item, tag, remove_archs)
        if self._tag_step is None:
            host()
        else:
            self._tag_step.remove(self, push_item, tag, remove_archs, host)

    def remove_signatures(self, outdated: list[tuple[str, str, str]]) -> None:
        """Let the enabled signers remove signatures."""
        for signer in self.target_settings["signing"]:
            if signer["enabled"]:
                signer_class = tag_docker.SIGNER_BY_LABEL[signer["label"]]
                made = signer_class(
                    config_file=signer["config_file"], settings=self.target_settings
                )
                made.remove_signatures(outdated, _exclude=[])


class ManifestListMerger(
    tag_docker.ManifestListMerger  # type: ignore[misc]  # the host is untyped
):
    """The host's merger; computes the list by our step where that is enabled."""

    def merge_manifest_lists_selected_architectures(self, eligible_archs: list[str]) -> object:
        """Compute the list that a tag is to hold."""
        step = _STEP.get()
        selection = step.selection if step is not None else None
        host = partial(super().merge_manifest_lists_selected_architectures, eligible_archs)
        return host() if selection is None else selection.compute(eligible_archs, host)


class PushDocker(tag_docker.PushDocker):  # type: ignore[misc]  # the host is untyped
    """Where the host's tag-docker checks repositories, before its first write."""

    @classmethod
    def check_repos_validity(
        cls, push_items: list[PushItem], hub: object, target_settings: dict[str, object]
    ) -> None:
        """Refuse a tag-docker that asks for the step and is of a class that cannot do it."""
        if not _IS_OURS.get():
            settings = settings_for("tag-docker", target_settings)
            if settings is not None:
                refuse("tag-docker", settings)
        super().check_repos_validity(push_items, hub, target_settings)
