"""The host's clients and registries, as a merge uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import Unauthorized
from pubtools_mlmerge.host.push_step import Merged, Sides, Tag
from pubtools_mlmerge.host.types import HostClient, Pusher, PushItem
from pubtools_mlmerge.merging.writer import push
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.registry.quay_history import TagHistory

_THREADS = 5  # the host's default


def make_sides(pusher: Pusher) -> Sides:
    """Take the clients and the copy of a pusher."""

    def copy(source: str, destinations: list[str]) -> None:
        pusher.run_tag_images(source, destinations, True, pusher.target_settings)  # noqa: FBT003

    settings = pusher.target_settings
    source, destination = map(HostRegistry, (pusher.src_quay_client, pusher.dest_quay_client))
    token = settings.get("dest_quay_api_token")
    history = TagHistory(destination.own, str(token)) if token else None
    threads = settings.get("num_thread_container_push")
    threads = threads if isinstance(threads, int) else _THREADS
    return Sides(source, destination, source.own, destination.own, copy, history, threads)


def client_like(client: HostClient) -> RegistryClient:
    """Make a client of ours that connects as the host's does, for what the host's cannot do."""
    verify = client.session.session.verify
    options = ConnectOptions(
        insecure=verify is False, ca_bundle=verify if isinstance(verify, str) else None
    )
    return RegistryClient(client.username, client.password, client.session.hostname, options)


def tags_of(pusher: Pusher, item: PushItem) -> list[Tag]:
    """List the destinations of a push item."""
    tags = item.metadata["tags"]
    namespace = pusher.target_settings["quay_namespace"]
    references = {
        f"{pusher.quay_host}/{namespace}/{repository.replace('/', '----')}:{tag}": repository
        for repository, names in tags.items()
        for tag in names
    }
    return [
        Tag(repository, Reference.parse(reference), item.claims_signing_key)
        for reference, repository in references.items()
    ]


def restore(client: HostClient, merged: Sequence[Merged]) -> None:
    """Put merged tags back to what they held before the push, where that is known."""
    registry = HostRegistry(client)
    for reference, previous in {each.tag.reference: each.previous for each in merged}.items():
        if previous is not None:
            push(registry, reference, previous)


class HostRegistry(ClientRegistry):
    """A registry behind the host's client, and behind ours for what that one cannot do."""

    def __init__(self, client: HostClient) -> None:
        super().__init__(client)
        self.own = client_like(client)

    def pull(self, reference: Reference) -> Manifest:
        """Read what a reference holds, see `Registry.pull`."""
        try:
            return super().pull(reference)
        except Unauthorized as error:
            raise evolve(error, logged_in=_had_token(error.__cause__)) from error.__cause__

    def digest(self, reference: Reference) -> str | None:
        """Tell what a reference holds now, by a HEAD request, see `Registry.digest`."""
        return self.own.digest(reference)

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        """Write a manifest, see `Registry.push`; an index that states no media type, too."""
        if isinstance(manifest, Index) and not manifest.states_media_type:
            return self.own.push(reference, manifest, repeat=repeat)
        return super().push(reference, manifest, repeat=repeat)

    def pull_config(self, reference: Reference, image: Image) -> Mapping[str, object]:
        """Read the config blob of an image, see `Registry.pull_config`."""
        return self.own.pull_config(reference, image)


def _had_token(error: BaseException | None) -> bool:
    """Tell a refusal in spite of a token, which hides what is absent, from a refused login."""
    request = getattr(getattr(error, "response", None), "request", None)
    return str(getattr(request, "headers", {}).get("Authorization", "")).startswith("Bearer ")
