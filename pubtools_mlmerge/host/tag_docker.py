"""The tag-docker step: the host's tag-docker classes with merging added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING

from pubtools._quay import tag_docker

from pubtools_mlmerge.host.task import settings_for

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.host.tag_client import TagDockerClient
    from pubtools_mlmerge.host.tag_step import HostTagWriter, TagDockerStep
    from pubtools_mlmerge.host.types import PushItem
    from pubtools_mlmerge.settings import Settings

_CURRENT: ContextVar[TagDockerStep | None] = ContextVar("pubtools_mlmerge_tag", default=None)


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
        self._own_client: TagDockerClient | None = None
        super().__init__(push_items, hub, task_id, target_name, target_settings)

    @contextmanager
    def _serving(self, push_item: PushItem) -> Iterator[None]:
        """Use our client for the repositories that we merge, and the host's for the others."""
        settings = self._settings_of(push_item)
        if settings is None or settings.report_only:
            yield
            return
        from pubtools_mlmerge.host.tag_client import TagDockerClient  # noqa: PLC0415 - see above

        host = self.quay_client
        if self._own_client is None:
            self._own_client = TagDockerClient(host.username, host.password, self.quay_host)
        self._quay_client, self._is_ours = self._own_client, True
        try:
            yield
        finally:
            self._quay_client, self._is_ours = host, False

    def is_arch_relevant(self, push_item: PushItem, arch: str) -> bool:
        """Know other spellings of an architecture, and whole platforms."""
        if not self._is_ours:
            return bool(super().is_arch_relevant(push_item, arch))
        from pubtools_mlmerge.host.tag_step import is_named  # noqa: PLC0415 - see above

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
        """Merge and sign; the list is computed by our step, again where somebody else writes."""
        host = super().merge_manifest_lists_sign_images
        settings = self._settings_of(push_item)
        if settings is None:
            host(push_item, tag, add_archs)
            return
        from pubtools_mlmerge.core.references import Reference  # noqa: PLC0415 - see above
        from pubtools_mlmerge.host.tag_step import TagDockerStep, persist  # noqa: PLC0415
        from pubtools_mlmerge.observe import observed  # noqa: PLC0415 - see above

        if settings.report_only:
            with _computed_by(TagDockerStep(settings)):
                host(push_item, tag, add_archs)
            return
        with self._serving(push_item), self._guarded(push_item, tag, settings) as guard:
            source = self._reference(push_item, push_item.metadata["tag_source"])
            attempts = count(1)

            def merge() -> Report | None:
                selecting = TagDockerStep(settings)
                self.quay_client.write = lambda to, content: guard.put(
                    source, to, selecting.plan, content
                )
                number = next(attempts)
                with _computed_by(selecting):
                    host(push_item, tag, add_archs)
                return selecting.announce(self.quay_client.uploaded, number)

            images = Reference.parse(source), Reference.parse(self._reference(push_item, tag))
            with observed("merge", *images) as seen:
                seen.report = persist(merge, settings.tries)

    def manifest_list_remove_archs(
        self, push_item: PushItem, tag: str, remove_archs: list[str]
    ) -> None:
        """Remove platforms, their attestations with them."""
        host = super().manifest_list_remove_archs
        settings = self._settings_of(push_item)
        if settings is None or settings.report_only:
            host(push_item, tag, remove_archs)
            return
        with self._serving(push_item), self._guarded(push_item, tag, settings) as guard:
            self.quay_client.write = lambda to, _content: guard.remove(to, remove_archs)
            host(push_item, tag, remove_archs)

    def _settings_of(self, push_item: PushItem) -> Settings | None:
        """Tell how to merge a push item; none if it is not to be merged."""
        repository = next(iter(push_item.repos))
        is_chosen = self._merging is not None and self._merging.covers(repository)
        return self._merging if is_chosen else None

    def _reference(self, push_item: PushItem, tag: str) -> str:
        name = tag_docker.get_internal_container_repo_name(next(iter(push_item.repos)))
        namespace = self.target_settings["quay_namespace"]
        return f"{self.quay_host}/{namespace}/{name}:{tag}"

    @contextmanager
    def _guarded(
        self, push_item: PushItem, tag: str, settings: Settings
    ) -> Iterator[HostTagWriter]:
        """Lock a tag, and let its next upload be written safely."""
        from pubtools_mlmerge.hooks import lock_tag  # noqa: PLC0415 - see above
        from pubtools_mlmerge.host.tag_step import HostTagWriter  # noqa: PLC0415 - see above

        token = self.target_settings.get("dest_quay_api_token")
        with lock_tag(self._reference(push_item, tag), settings.lock) as check:
            yield HostTagWriter(self.quay_client, settings, token, check)


@contextmanager
def _computed_by(selecting: TagDockerStep | None) -> Iterator[None]:
    token = _CURRENT.set(selecting)
    try:
        yield
    finally:
        _CURRENT.reset(token)


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
