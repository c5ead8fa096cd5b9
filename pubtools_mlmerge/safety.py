"""Safety: records and histories, loaded where a task asks for them."""

from __future__ import annotations

from pubtools_mlmerge.changes import Change
from pubtools_mlmerge.planned import History, Recorder
from pubtools_mlmerge.registry.client import RegistryClient


def audit_directory(directory: str) -> Recorder:
    """Keep records of changes in a directory.

    Args:
        directory (str):
            The directory; it is made when it is needed.

    Returns:
        Recorder: Keeps them.
    """
    from pubtools_mlmerge.audit import AuditDirectory  # noqa: PLC0415 - most tasks keep none

    return AuditDirectory(directory)


def task_records(directory: str | None) -> Recorder | None:
    """Keep records of the changes in a task of the host.

    Args:
        directory (str | None):
            A directory for them; none for the host's collector alone.

    Returns:
        Recorder | None: Keeps them in both; none where there is neither.
    """
    from pubtools_mlmerge.audit import Collected  # noqa: PLC0415 - as above

    recorders: list[Recorder] = [audit_directory(directory)] if directory else []
    if Collected.is_set_up():
        recorders.append(Collected())
    return _All(tuple(recorders)) if recorders else None


class _All:
    """Several recorders."""

    def __init__(self, recorders: tuple[Recorder, ...]) -> None:
        self._recorders = recorders

    def record(self, change: Change) -> None:
        """Let each keep the change."""
        for recorder in self._recorders:
            recorder.record(change)


def tag_history(client: RegistryClient, token: str) -> History:
    """Read the history of tags, where the registry is a Quay.

    Args:
        client (RegistryClient):
            Connects to the registry.
        token (str):
            Token of Quay's API.

    Returns:
        History: Knows what a write replaced.

    Raises:
        InvalidSettings: When it can be no token.
    """
    from pubtools_mlmerge.registry.quay_history import QuayTags, Recovery  # noqa: PLC0415

    return Recovery(QuayTags(client, token))
