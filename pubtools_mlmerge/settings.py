"""Settings: what a target or the environment says about merging, parsed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, TypeVar

from attrs import field, frozen

from pubtools_mlmerge.activation import KEY, PREFIX
from pubtools_mlmerge.anchors import AnchorTag
from pubtools_mlmerge.errors import InvalidSettings
from pubtools_mlmerge.plan import Policy
from pubtools_mlmerge.platforms import PlatformPattern

Step = Literal["push", "tag-docker"]
_Value = TypeVar("_Value")
_ANCHOR_TAG = AnchorTag("{tag}-{timestamp}")
_TRUE = ("1", "true", "t", "yes", "y")
_FALSE = ("0", "false", "f", "no", "n", "")


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen(kw_only=True)
class Settings:
    """How merging is to be done in a task.

    Attributes:
        steps (frozenset[str]):
            Where merging is enabled: ``push``, ``tag-docker``.
        repos (tuple[str, ...]):
            Glob patterns of external repository names; if there are any, only these are merged.
        exclude_repos (tuple[str, ...]):
            Glob patterns of external repository names that are not merged.
        policy (Policy):
            What the merge decides differently.
        copy (str):
            How children get into another repository: ``auto``, ``skopeo`` or ``never``.
        anchor_tag (AnchorTag | None):
            A second tag for each merged index; none for none.
        sign (bool):
            Whether merged indexes are signed.
        report_only (bool):
            Whether the plan is only logged.
    """

    steps: frozenset[str] = frozenset()
    repos: tuple[str, ...] = field(default=(), converter=_strings)
    exclude_repos: tuple[str, ...] = field(default=(), converter=_strings)
    policy: Policy = field(factory=Policy)
    copy: Literal["auto", "skopeo", "never"] = "auto"
    anchor_tag: AnchorTag | None = _ANCHOR_TAG
    sign: bool = True
    report_only: bool = False

    @classmethod
    def from_task(
        cls, target_settings: Mapping[str, object], environment: Mapping[str, str]
    ) -> Settings:
        """Read the settings of a task.

        Args:
            target_settings (Mapping[str, object]):
                Settings of the target; ours are below ``mlmerge``, and win.
            environment (Mapping[str, str]):
                Environment variables; ``MLMERGE_STEPS`` and so on, lists separated by commas.

        Returns:
            Settings: Of which nothing is enabled unless it is asked for.

        Raises:
            InvalidSettings: Naming all problems at once.
        """
        reader = _Reader(_from_environment(environment), target_settings.get(KEY))
        defaults = cls()
        settings = cls(
            steps=frozenset(reader.choices("steps", ("push", "tag-docker"))),
            repos=reader.texts("repos"),
            exclude_repos=(*reader.texts("exclude_repos"), *_index_images(target_settings)),
            policy=Policy(
                match=reader.choice("match", ("platform", "architecture")),
                keep=reader.parsed("keep", PlatformPattern.parse),
                drop=reader.parsed("drop", PlatformPattern.parse),
                mixed_types=reader.choice("mixed_types", ("oci", "fail")),
                single_image=reader.choice("single_image", ("replace", "wrap", "fail")),
            ),
            copy=reader.choice("copy", ("auto", "skopeo", "never")),
            anchor_tag=reader.anchor_tag("anchor_tag", defaults.anchor_tag),
            sign=reader.flag("sign", default=defaults.sign),
            report_only=reader.flag("report_only", default=defaults.report_only),
        )
        reader.finish()
        return settings

    def covers(self, repository: str) -> bool:
        """Tell whether a repository is to be merged.

        Args:
            repository (str):
                External name of the repository.

        Returns:
            bool: False if it is excluded, or not among those chosen.
        """
        chosen = not self.repos or any(fnmatchcase(repository, glob) for glob in self.repos)
        return chosen and not any(fnmatchcase(repository, glob) for glob in self.exclude_repos)


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Read our variables; an empty one counts as not set, save where the value may be none."""
    found = {
        name[len(PREFIX) :].lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    return {name: value for name, value in found.items() if value or name == "anchor_tag"}


def _index_images(target_settings: Mapping[str, object]) -> list[str]:
    """Name the operator and index-image repositories, as the target and as users call them."""
    names: list[str] = []
    for key in ("quay_operator_repository", "iib_index_image"):
        value = target_settings.get(key)
        if isinstance(value, str) and value:
            name = value.partition("@")[0]
            name = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
            for part in (name, name.partition("/")[2], name.rpartition("/")[2]):
                names += [part, part.replace("----", "/")]
    return [name for name in dict.fromkeys(names) if name]


class _Reader:
    """Reads values of known names, and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, object], given: object) -> None:
        self._problems: list[str] = []
        self._known: set[str] = set()
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            self._problems.append(f"{KEY}: expected an object")
            given = {}
        self._places = {
            **{name: f"{PREFIX}{name.upper()}" for name in environment},
            **{str(name): f"{KEY}.{name}" for name in given},
        }
        self._values: dict[str, object] = {**environment, **{str(k): v for k, v in given.items()}}

    def finish(self) -> None:
        """Raise what was collected."""
        unknown = sorted(self._values.keys() - self._known)
        known = ", ".join(sorted(self._known))
        self._problems += [f"{self._places[name]}: unknown, there are {known}" for name in unknown]
        if self._problems:
            raise InvalidSettings(tuple(self._problems))

    def _take(self, name: str) -> object:
        self._known.add(name)
        return self._values.get(name)

    def _refuse(self, name: str, expected: str) -> None:
        self._problems.append(f"{self._places[name]}: {expected}")

    def choice(self, name: str, allowed: tuple[_Value, ...]) -> _Value:
        """Read one of some values; the first is the default."""
        value = self._take(name)
        if value is None:
            return allowed[0]
        for candidate in allowed:
            if candidate == value:
                return candidate
        self._refuse(name, f"expected {' or '.join(str(each) for each in allowed)}")
        return allowed[0]

    def texts(self, name: str) -> list[str]:
        """Read a list of texts; the environment separates them by commas."""
        value = self._take(name)
        if isinstance(value, str) and self._places[name].startswith(PREFIX):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if value is None:
            return []
        if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
            return list(value)
        self._refuse(name, "expected a list of texts")
        return []

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        """Read some of some values."""
        values = self.texts(name)
        for value in values:
            if value not in allowed:
                self._refuse(name, f"{value!r} is none of {', '.join(allowed)}")
        return values

    def parsed(self, name: str, parse: Callable[[str], _Value]) -> list[_Value]:
        """Read a list of texts that follow a grammar."""
        values: list[_Value] = []
        for text in self.texts(name):
            try:
                values.append(parse(text))
            except ValueError as error:
                self._refuse(name, str(error))
        return values

    def flag(self, name: str, *, default: bool) -> bool:
        """Read yes or no; the environment writes them in several ways."""
        value = self._take(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        is_text = isinstance(value, str) and self._places[name].startswith(PREFIX)
        if is_text and str(value).lower() in (*_TRUE, *_FALSE):
            return str(value).lower() in _TRUE
        self._refuse(name, "expected true or false")
        return default

    def anchor_tag(self, name: str, default: AnchorTag | None) -> AnchorTag | None:
        """Read a template, or null for none."""
        value = self._take(name)
        if name not in self._places:
            return default
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self._refuse(name, "expected a text or null")
            return default
        try:
            return AnchorTag.parse(value)
        except ValueError as error:
            self._refuse(name, str(error))
        return default
