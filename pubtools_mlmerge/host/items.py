"""Push items of the host, as the steps see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidSettings
from pubtools_mlmerge.host.types import PushItem
from pubtools_mlmerge.settings import KEY, Settings


@frozen
class Tag:
    """One destination of a push item."""

    repository: str  # its external name
    reference: Reference  # by its internal name
    signing_key: str | None

    @property
    def name(self) -> str:
        """Repository and tag, as the public names them."""
        return f"{self.repository}:{self.reference.tag}"


def tags_of(quay_host: str, target_settings: Mapping[str, object], item: PushItem) -> list[Tag]:
    """List the destinations of a push item."""
    namespace = target_settings["quay_namespace"]
    references = {
        f"{quay_host}/{namespace}/{repository.replace('/', '----')}:{tag}": repository
        for repository, names in item.metadata["tags"].items()
        for tag in names
    }
    return [
        Tag(repository, Reference.parse(reference), item.claims_signing_key)
        for reference, repository in references.items()
    ]


def is_source_container(item: PushItem) -> bool:
    """Whether an item brings the sources of an image, which are never merged."""
    build = item.metadata.get("build")
    extra = build.get("extra") if isinstance(build, Mapping) else None
    image = extra.get("image") if isinstance(extra, Mapping) else None
    return isinstance(image, Mapping) and bool(image.get("sources_for_nvr"))


class ItemSettings:
    """The settings of a task, with what push items set differently.

    Raises:
        InvalidSettings: Naming the problems of all items at once.
    """

    def __init__(self, settings: Settings, items: Iterable[PushItem]) -> None:
        self.task = settings
        self._of_items: dict[int, Settings] = {}
        problems: list[str] = []
        for number, item in enumerate(items):
            given = item.metadata.get(KEY)
            found, wrong = settings.for_item(given, f"push_items[{number}].{KEY}")
            self._of_items[id(item)] = found
            problems += wrong
        if problems:
            raise InvalidSettings(tuple(problems))

    def of(self, item: PushItem) -> Settings:
        """Return the settings of an item."""
        return self._of_items.get(id(item), self.task)
