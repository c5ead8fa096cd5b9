"""The tag-docker step's seams: the host's tag-docker classes with merging added.

Each does what the host's does unless the target enables the step. Nothing of the engine is loaded
before that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from pubtools._quay import tag_docker

from pubtools_mlmerge.host.task import refuse, settings_for

if TYPE_CHECKING:
    from pubtools_mlmerge.host.clients import PushItem
    from pubtools_mlmerge.host.tag_step import Selection, TagDockerStep

_CURRENT: ContextVar[TagDocker | None] = ContextVar("pubtools_mlmerge_tag_docker", default=None)


class TagDocker(tag_docker.TagDocker):  # type: ignore[misc]  # the host is untyped
    """The host's tag-docker; knows platforms, attestations and OCI indexes."""

    _tag_step: TagDockerStep | None = None

    @property
    def selection(self) -> Selection | None:
        """The merge that is under way."""
        return None if self._tag_step is None else self._tag_step.selection

    @property
    def quay_client(self) -> object:
        """The host's client; while a merge is under way, its upload is ours."""
        host_client = super().quay_client
        return host_client if self.selection is None else self.selection.guard(host_client)

    def run(self) -> object:
        """Run the task."""
        settings = settings_for("tag-docker", self.target_settings)
        token = _CURRENT.set(self)
        try:
            if settings is None:
                return super().run()
            from pubtools_mlmerge.host.tag_step import TagDockerStep  # noqa: PLC0415 - the engine

            self._tag_step = TagDockerStep(self, settings, self.push_items)
            with self._tag_step.running():
                return super().run()
        finally:
            _CURRENT.reset(token)

    def _step_for(self, push_item: PushItem) -> TagDockerStep | None:
        """Return the step if it writes for an item."""
        step = self._tag_step
        return step if step is not None and step.writes(push_item) else None

    def is_arch_relevant(self, push_item: PushItem, arch: str) -> object:
        """Accept other spellings of an architecture."""
        step = self._step_for(push_item)
        if step is None:
            return super().is_arch_relevant(push_item, arch)
        return step.is_relevant(push_item, arch)

    def tag_add_calculate_archs(self, push_item: PushItem, tag: str, executor: object) -> object:
        """List the platforms of the source that are to be added, or let the host do it."""
        step = self._step_for(push_item)
        found = None if step is None else step.added(push_item, tag)
        return super().tag_add_calculate_archs(push_item, tag, executor) if found is None else found

    def tag_remove_calculate_archs(self, push_item: PushItem, tag: str, executor: object) -> object:
        """List the platforms to remove and those that stay, or let the host do it."""
        step = self._step_for(push_item)
        found = None if step is None else step.removed(push_item, tag)
        if found is None:
            return super().tag_remove_calculate_archs(push_item, tag, executor)
        return found

    def merge_manifest_lists_sign_images(
        self, push_item: PushItem, tag: str, add_archs: list[str]
    ) -> None:
        """Merge and sign; the list is computed and written by our step."""
        host = partial(super().merge_manifest_lists_sign_images, push_item, tag, add_archs)
        if self._tag_step is None:
            refuse("tag-docker", self.target_settings)  # where a site's class runs without ours
            host()
        else:
            self._tag_step.merge(push_item, tag, add_archs, host)

    def copy_tag_sign_images(self, push_item: PushItem, tag: str, executor: object) -> None:
        """Copy a single image over a tag."""
        host = partial(super().copy_tag_sign_images, push_item, tag, executor)
        self._run_alone(push_item, tag, host)

    def untag_image(self, push_item: PushItem, tag: str) -> None:
        """Delete a tag of which nothing would be left."""
        self._run_alone(push_item, tag, partial(super().untag_image, push_item, tag))

    def _run_alone(self, push_item: PushItem, tag: str, host: Callable[[], object]) -> None:
        step = self._step_for(push_item)
        if step is None:
            host()
        else:
            step.alone(push_item, tag, host)

    def manifest_list_remove_archs(
        self, push_item: PushItem, tag: str, remove_archs: Sequence[str]
    ) -> None:
        """Remove platforms, with their attestations, and then the signatures."""
        step = self._step_for(push_item)
        if step is None:
            super().manifest_list_remove_archs(push_item, tag, remove_archs)
            return
        outdated = step.remove(push_item, tag, remove_archs)
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
        task = _CURRENT.get()
        selection = None if task is None else task.selection
        if selection is None:
            return super().merge_manifest_lists_selected_architectures(eligible_archs)
        return selection.compute(eligible_archs)


class PushDocker(tag_docker.PushDocker):  # type: ignore[misc]  # the host is untyped
    """Where the host's tag-docker checks repositories, before its first write."""

    @classmethod
    def check_repos_validity(
        cls, push_items: list[PushItem], hub: object, target_settings: dict[str, object]
    ) -> None:
        """Refuse a tag-docker that asks for the step and is of a class that cannot do it."""
        if _CURRENT.get() is None:
            refuse("tag-docker", target_settings)
        super().check_repos_validity(push_items, hub, target_settings)
