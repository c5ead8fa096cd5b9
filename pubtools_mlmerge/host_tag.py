"""What stands in for the host's names in tag-docker: its classes, with our step added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pubtools._quay import tag_docker

from pubtools_mlmerge.plugin import settings_for

if TYPE_CHECKING:  # tasks that do not merge do not load the rest
    from pubtools_mlmerge.host_client import QuayClient
    from pubtools_mlmerge.host_types import PushItem
    from pubtools_mlmerge.settings import Settings
    from pubtools_mlmerge.tag_step import Selecting

_CURRENT: ContextVar[Selecting | None] = ContextVar("pubtools_mlmerge_tag", default=None)


class TagDocker(tag_docker.TagDocker):  # type: ignore[misc]  # the host is untyped
    """The host's tag-docker; knows platforms, attestations and OCI indexes."""

    def __init__(
        self,
        push_items: list[object],
        hub: object,
        task_id: str,
        target_name: str,
        target_settings: dict[str, object],
    ) -> None:
        self._merging: Settings | None = settings_for("tag-docker", target_settings)
        self._is_ours = False
        self._own_client: QuayClient | None = None
        super().__init__(push_items, hub, task_id, target_name, target_settings)

    @contextmanager
    def _serving(self, push_item: PushItem) -> Iterator[None]:
        """Use our client for the repositories that we merge, and the host's for the others."""
        if self._merging is None or self._merging.report_only or not self._covers(push_item):
            yield
            return
        from pubtools_mlmerge import host_client  # noqa: PLC0415 - see above

        host = self.quay_client
        if self._own_client is None:
            self._own_client = host_client.QuayClient(host.username, host.password, self.quay_host)
        self._quay_client, self._is_ours = self._own_client, True
        try:
            yield
        finally:
            self._quay_client, self._is_ours = host, False

    def is_arch_relevant(self, push_item: PushItem, arch: str) -> bool:
        """Know other spellings of an architecture, and whole platforms."""
        if not self._is_ours:
            return bool(super().is_arch_relevant(push_item, arch))
        from pubtools_mlmerge.tag_step import is_named  # noqa: PLC0415 - see above

        metadata = push_item.metadata
        named = is_named(arch, metadata["archs"])
        return bool(arch) and named != bool(metadata["exclude_archs"])

    def tag_add_calculate_archs(self, push_item: PushItem, tag: str, executor: object) -> object:
        """Calculate what is added, by platforms."""
        with self._serving(push_item):
            return super().tag_add_calculate_archs(push_item, tag, executor)

    def tag_remove_calculate_archs(self, push_item: PushItem, tag: str, executor: object) -> object:
        """Calculate what is removed, by platforms."""
        with self._serving(push_item):
            return super().tag_remove_calculate_archs(push_item, tag, executor)

    def merge_manifest_lists_sign_images(
        self, push_item: PushItem, tag: str, add_archs: list[str]
    ) -> None:
        """Merge and sign; the list is computed by our step."""
        selecting = self._select(push_item)
        token = _CURRENT.set(selecting)
        try:
            with self._serving(push_item), self._locked(push_item, tag):
                super().merge_manifest_lists_sign_images(push_item, tag, add_archs)
                if self._is_ours and selecting is not None:
                    selecting.announce(self.quay_client.uploaded)
        finally:
            _CURRENT.reset(token)

    def manifest_list_remove_archs(
        self, push_item: PushItem, tag: str, remove_archs: list[str]
    ) -> None:
        """Remove platforms, their attestations with them."""
        with self._serving(push_item), self._locked(push_item, tag):
            if self._is_ours:
                from pubtools_mlmerge.tag_step import without  # noqa: PLC0415 - see above

                self.quay_client.rewrite = lambda index: without(index, remove_archs)
            super().manifest_list_remove_archs(push_item, tag, remove_archs)

    def _covers(self, push_item: PushItem) -> bool:
        repository = next(iter(push_item.repos))
        return self._merging is not None and self._merging.covers(repository)

    def _select(self, push_item: PushItem) -> Selecting | None:
        if self._merging is None or not self._covers(push_item):
            return None
        from pubtools_mlmerge.tag_step import Selecting  # noqa: PLC0415 - see above

        return Selecting(self._merging)

    @contextmanager
    def _locked(self, push_item: PushItem, tag: str) -> Iterator[None]:
        if not self._is_ours:
            yield
            return
        from pubtools_mlmerge.calls import lock_tag  # noqa: PLC0415 - see above

        repository = next(iter(push_item.repos))
        name = tag_docker.get_internal_container_repo_name(repository)
        namespace = self.target_settings["quay_namespace"]
        with lock_tag(f"{self.quay_host}/{namespace}/{name}:{tag}"):
            yield


class ManifestListMerger(
    tag_docker.ManifestListMerger  # type: ignore[misc]  # the host is untyped
):
    """The host's merger; computes the list by our step where that is enabled."""

    def merge_manifest_lists_selected_architectures(self, eligible_archs: list[str]) -> object:
        """Compute the list that a tag is to hold."""
        selecting = _CURRENT.get()
        if selecting is None:
            return super().merge_manifest_lists_selected_architectures(eligible_archs)
        images = (self.src_image, self.dest_image)
        clients = (self._src_quay_client, self._dest_quay_client)
        if selecting.settings.report_only:
            selecting.log(images, clients, eligible_archs)
            return super().merge_manifest_lists_selected_architectures(eligible_archs)
        return selecting.compute(images, clients, eligible_archs)
