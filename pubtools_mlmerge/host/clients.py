"""The host's objects as far as we look at them, and clients of ours with the host's logins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Protocol, TypedDict

from attrs import frozen
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.registry.base import ManifestClient
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions, Shared
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")

_THREADS = 5  # the host's default


# The host itself is untyped.


class _Requests(Protocol):
    verify: bool | str


class _Session(Protocol):
    hostname: str
    session: _Requests


class HostClient(ManifestClient, Protocol):
    """The host's Quay client, with how it connects."""

    username: str | None
    password: str | None
    session: _Session


class HostTask(Protocol):
    """What the host's workers have in common."""

    quay_host: str
    target_settings: dict[str, object]


class Pusher(HostTask, Protocol):
    """The host's pusher."""

    src_quay_client: HostClient
    dest_quay_client: HostClient

    def run_tag_images(
        self,
        source_ref: str,
        dest_refs: list[str],
        all_arch: bool,  # noqa: FBT001 - the host's signature
        target_settings: dict[str, object],
    ) -> None:
        """Copy a reference to others."""


class Metadata(TypedDict, total=False):
    """What the host keeps about a push item."""

    pull_url: str
    tags: Mapping[str, Sequence[str]]
    build: Mapping[str, object]
    archs: Sequence[str]
    exclude_archs: bool
    tag_source: str
    mlmerge: object


class PushItem(Protocol):
    """The host's push item."""

    claims_signing_key: str | None
    metadata: Metadata
    repos: Mapping[str, object]


def internal_reference(task: HostTask, repository: str, tag: str) -> Reference:
    """Name a tag as the host does in its registry; the repository is the external one."""
    place = f"{task.quay_host}/{task.target_settings['quay_namespace']}"
    return Reference.parse(f"{place}/{repository.replace('/', '----')}:{tag}")


@frozen(eq=False)
class Sides:
    """The registries of a push."""

    source: RegistryClient
    destination: RegistryClient
    copy: Callable[[Reference, Sequence[Reference]], None]  # the host's, of one to others
    history: TagHistory | None = None  # where the target has a token of Quay's API
    threads: int = 1  # how many tags may be merged at a time, of all items together

    def close(self) -> None:
        """Close the connections."""
        self.source.close()
        self.destination.close()


def make_sides(pusher: Pusher, settings: Settings) -> Sides:
    """Connect as a pusher of the host does."""
    target = pusher.target_settings

    def copy(source: Reference, destinations: Sequence[Reference]) -> None:
        token = _SILENT.set(not all(each.tag for each in destinations))
        try:
            with suppress(_Silenced):
                names = list(map(str, destinations))
                pusher.run_tag_images(str(source), names, True, target)  # noqa: FBT003
        finally:
            _SILENT.reset(token)

    source = connect_like(pusher.src_quay_client, settings)
    destination = connect_like(pusher.dest_quay_client, settings, source)
    threads = target.get("num_thread_container_push")
    return Sides(
        source,
        destination,
        copy,
        history_of(destination, target),
        threads if isinstance(threads, int) else _THREADS,
    )


class _HostLoginClient(RegistryClient):
    """The logins of the target only: no auth file or helper of the worker's user."""

    def _find_credentials(self, host: str, repository: str) -> Credentials | None:  # noqa: ARG002 - there is one login, whatever is read
        return self.credentials

    def _say_none_found(self, host: str) -> str:
        return f"the target's settings have no login for {host}"


def connect_like(
    client: HostClient, settings: Settings, other: RegistryClient | None = None
) -> RegistryClient:
    """Make a client of ours with the login and the host of a client of the host.

    It shares the request rate and the refused logins of `other`. The first one of a task warns if
    nothing proves which registry answers.
    """
    theirs, verifies = client.session.session.verify, settings.tls_verify
    if verifies is None:
        verifies = theirs is not False
    if not verifies and other is None:
        reason = "as in pubtools-quay" if settings.tls_verify is None else "tls_verify is false"
        LOG.warning("Certificates of the registries are not verified (%s)", reason)
    options = ConnectOptions(
        insecure=not verifies,
        ca_bundle=theirs if isinstance(theirs, str) else None,
        certs_d=(),
        shared=other.options.shared if other is not None else Shared(),
    )
    return _HostLoginClient(
        client.session.hostname,
        username=client.username,
        password=client.password,
        options=options,
    )


def history_of(client: RegistryClient, target_settings: dict[str, object]) -> TagHistory | None:
    """Read the history of tags where the target has a token for it."""
    token = target_settings.get("dest_quay_api_token")
    return TagHistory(client, str(token)) if token else None


# The host announces each copy by `quay_images_tagged`. A copy to a digest is none of a tag, and
# sites take such references apart at the colon.
_SILENT: ContextVar[bool] = ContextVar("pubtools_mlmerge_silent", default=False)


class _Silenced(BaseException):
    """Ends the host's copy before its event; no Exception, which the host would try again."""


class _Events:
    """Comes before all implementations of the host's event."""

    @hookimpl(hookwrapper=True, tryfirst=True)
    def quay_images_tagged(self) -> Generator[None, object, None]:
        """Keep the event of a copy to digests from everybody."""
        if _SILENT.get():
            raise _Silenced
        yield


pm.register(_Events())
