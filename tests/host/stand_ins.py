"""What stands at the edges of the host: signers, the operators' pusher, Quay's API, the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from attrs import define, field
from pubtools._quay.item_processor import SignEntry
from pubtools._quay.signer_wrapper import MsgSignerWrapper

SIGNER = "recording-signer"
EARLY_SIGNER = "early-signer"
CLAIMS_SIGNER = "claims-signer"


class RecordingSigner:
    """Stands where the host keeps its signers, and notes what it is asked for."""

    label = SIGNER
    pre_push = False
    signed: ClassVar[list[SignEntry]] = []
    removed: ClassVar[list[tuple[str, str, str]]] = []

    def __init__(self, config_file: str, settings: Mapping[str, object]) -> None:
        self.settings = settings

    def sign_containers(self, entries: Sequence[SignEntry], task_id: str) -> None:
        """Note what is to be signed."""
        self.signed.extend(entries)

    def remove_signatures(
        self, outdated: Sequence[tuple[str, str, str]], _exclude: Sequence[object]
    ) -> None:
        """Note whose signatures are to go."""
        self.removed.extend(outdated)


class EarlySigner(RecordingSigner):
    """Signs before the push."""

    label = EARLY_SIGNER
    pre_push = True
    signed: ClassVar[list[SignEntry]] = []
    removed: ClassVar[list[tuple[str, str, str]]] = []


class ClaimsSigner(MsgSignerWrapper):  # type: ignore[misc]  # of an untyped package
    """The host's own signer that asks what is signed; who signs and who keeps it are replaced."""

    label = CLAIMS_SIGNER
    pre_push = False
    kept: ClassVar[list[dict[str, str]]] = []

    @property
    def entry_point(self) -> Callable[..., object]:
        """Sign."""

        def sign(digest: Sequence[str], reference: Sequence[str], **others: str) -> object:
            key = others["signing_key"] if "signing_key" in others else others["signing_keys"][0]
            claims = [
                {"manifest_digest": signed, "reference": name, "sig_key_id": key}
                for signed, name in zip(digest, reference)
            ]
            return {"signer_result": {"status": "ok"}, "claims": claims}

        return sign

    def _run_store_signed(self, signed: Mapping[str, Sequence[dict[str, str]]]) -> None:
        self.kept.extend(signed["claims"])

    def _fetch_signatures(self, digests: Sequence[str]) -> Iterator[dict[str, str]]:
        return (claim for claim in self.kept if claim["manifest_digest"] in digests)

    def remove_signatures(
        self, outdated: Sequence[tuple[str, str, str]], _exclude: Sequence[object]
    ) -> None:
        """Keep all."""


class NoBundles:
    """Stands for the operators' pusher, and finds no bundles: the host rolls everything back."""

    def __init__(self, items: object, task_id: str, settings: object) -> None:
        """Take what the host gives."""

    def get_existing_index_images(self, client: object) -> list[object]:
        """Have none."""
        return []

    def ensure_bundles_present(self) -> bool:
        """Miss some."""
        return False

    def push_index_images(self, results: object, stamp: str) -> None:
        """Have nothing to push."""


class Deletions:
    """Stands for Quay's own API, which docker-registry has not."""

    made: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, token: str, host: str) -> None:
        """Take what the host gives."""

    def delete_tag(self, repository: str, tag: str) -> None:
        """Note it."""
        self.made.append((repository, tag))


@define
class Hub:
    """Stands for the task host's hub, and knows the settings of other targets."""

    targets: dict[str, dict[str, object]] = field(factory=dict)

    @property
    def worker(self) -> Hub:
        """Hold the calls."""
        return self

    def get_target_info(self, name: str) -> dict[str, object]:
        """Look up a target."""
        return {"settings": self.targets[name]}
