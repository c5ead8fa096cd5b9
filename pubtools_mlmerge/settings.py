"""Settings of a host task, from its target settings and the environment."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeVar, get_args

from attrs import evolve, field, frozen

from pubtools_mlmerge.core.plan import MOST_DAYS, AgeRule, Match, Policy, SingleImage, Stale
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import is_host
from pubtools_mlmerge.errors import InvalidSettings
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions

LOG = logging.getLogger("pubtools.mlmerge")

_Value = TypeVar("_Value")
_Default = TypeVar("_Default")
_DIGITS = "[0-9]{1,9}"
_TRUE = ("1", "true", "t", "yes", "y")
_FALSE = ("0", "false", "f", "no", "n", "")

_STEPS = ("push", "tag-docker")
_LOGIN = re.compile("MLMERGE_((SRC|DEST)_)?(CREDS|PASSWORD)")  # of the commands
KEY = "mlmerge"
"""The key of the target settings that holds ours."""
PREFIX = "MLMERGE_"
"""What our environment variables begin with."""


class _Variable(str):
    """A value of the environment, where everything is text."""

    __slots__ = ()


class Values:
    """Reads values by name, and collects all problems."""

    def __init__(self, environment: Mapping[str, str], given: object, place: str = KEY) -> None:
        self._place = place
        self._problems: list[str] = []
        self._known: set[str] = set()
        if not isinstance(given, Mapping):
            if given is not None:
                self._problems.append(f"{place}: expected an object")
            given = {}
        self._values: dict[str, object] = {
            **{name: _Variable(text) for name, text in environment.items()},
            **{str(name): value for name, value in given.items()},
        }

    def finish(self) -> tuple[str, ...]:
        """Return what is wrong; variables that are unknown are only warned of."""
        for name in sorted(self._values.keys() - self._known):
            if isinstance(self._values[name], _Variable):
                # Other programs and Kubernetes make variables with such names, too.
                variable = f"{PREFIX}{name.upper()}"
                LOG.warning("%s is not a setting of pubtools-mlmerge, ignored", variable)
            else:
                self._refuse(name, f"unknown, expected one of {', '.join(sorted(self._known))}")
        return tuple(self._problems)

    def _refuse(self, name: str, problem: object) -> None:
        is_variable = isinstance(self._values[name], _Variable)
        place = f"{PREFIX}{name.upper()}" if is_variable else f"{self._place}.{name}"
        self._problems.append(f"{place}: {problem}")

    def _read(
        self, name: str, default: _Default, convert: Callable[[object], _Value]
    ) -> _Value | _Default:
        self._known.add(name)
        value = self._values.get(name)
        try:
            return default if value is None else convert(value)
        except ValueError as error:
            self._refuse(name, error)
            return default

    def choice(self, name: str, default: _Value, allowed: Iterable[_Value]) -> _Value:
        """Read one of some values; the default comes first in what is said of them."""
        choices = [*dict.fromkeys((default, *allowed))]

        def convert(value: object) -> _Value:
            for candidate in choices:
                if candidate == value:
                    return candidate
            raise ValueError(f"expected {' or '.join(map(str, choices))}")

        return self._read(name, default, convert)

    def parsed(self, name: str, parse: Callable[[str], _Value]) -> list[_Value]:
        """Read a list of texts that follow a grammar; the environment separates them by commas."""
        values: list[_Value] = []
        for text in self._read(name, (), _texts):
            try:
                values.append(parse(text))
            except ValueError as error:
                self._refuse(name, error)
        return values

    def flag(self, name: str, default: _Default) -> bool | _Default:
        """Read yes or no; the environment writes them in several ways."""
        return self._read(name, default, _flag)

    def number(self, name: str, default: _Default, most: int) -> int | _Default:
        """Read a whole number from 1 on; the environment writes it in digits."""

        def convert(value: object) -> int:
            if isinstance(value, _Variable) and re.fullmatch(_DIGITS, value):
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
                return value
            raise ValueError(f"expected a number from 1 to {most}")

        return self._read(name, default, convert)

    def optional(
        self, name: str, default: _Value | None, parse: Callable[[str], _Value]
    ) -> _Value | None:
        """Read a text that follows a grammar, or null for none."""

        def convert(value: object) -> _Value | None:
            if isinstance(value, str):
                return parse(value) if value else None
            raise ValueError("expected a text or null")

        is_null = self._values.get(name, "") is None
        return self._read(name, None if is_null else default, convert)


def _texts(value: object) -> Sequence[str]:
    if isinstance(value, _Variable):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return value
    raise ValueError("expected a list of texts")


def _flag(value: object) -> bool:
    if isinstance(value, _Variable) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    if isinstance(value, bool):
        return value
    raise ValueError("expected true or false")


MOST_TRIES = 100
_ANCHOR_TAG = AnchorTag("{tag}-{timestamp}")
_POLICY = Policy(mixed_types="fail", single_image="wrap", serves_many=True)


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
            Options of the merge.
        copy (str):
            How children get into another repository: ``auto``, ``skopeo`` or ``never``.
        referrers (str):
            Whether to ``copy`` referrers of images, ``warn`` of them or ``ignore`` them.
        anchor_tag (AnchorTag | None):
            A second tag for each merged index; none for none.
        anchor_days (int | None):
            After how many days Quay deletes the second tag; none for never.
        sign (bool):
            Whether merged indexes are signed.
        verify (bool):
            Whether a tag is read again just before it is written, and after that.
        tries (int):
            How often a merge is planned at most, where somebody else writes the tag.
        lock (str | None):
            Where tags are locked, as a URL; none for a lock of this process.
        lock_aliases (tuple[str, ...]):
            Host names that are one registry.
        audit (str | None):
            Directory that keeps a record of each change; none to keep none.
        max_age_days (int | None):
            How old what is kept may be; none for any age.
        stale (str):
            Whether to ``warn`` of older images, ``drop`` them or ``fail``.
        tls_verify (bool | None):
            Whether certificates are verified; none to do as the host's client does.
        report_only (bool):
            Whether the plan is only logged.
    """

    steps: frozenset[str] = frozenset()
    repos: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    exclude_repos: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    policy: Policy = _POLICY
    copy: Literal["auto", "skopeo", "never"] = "auto"
    referrers: Literal["copy", "warn", "ignore"] = "ignore"
    anchor_tag: AnchorTag | None = _ANCHOR_TAG
    anchor_days: int | None = None
    sign: bool = True
    verify: bool = True
    tries: int = 5
    lock: str | None = field(default=None, repr=False)
    lock_aliases: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    audit: str | None = None
    max_age_days: int | None = None
    stale: Stale = "warn"
    tls_verify: bool | None = None
    report_only: bool = False

    @classmethod
    def from_task(
        cls, target_settings: Mapping[str, object], environment: Mapping[str, str]
    ) -> Settings:
        """Read settings from both places.

        Args:
            target_settings (Mapping[str, object]):
                Settings of the target; ours are below ``mlmerge``, and win.
            environment (Mapping[str, str]):
                Environment variables; ``MLMERGE_STEPS`` and so on, lists separated by commas.

        Returns:
            Settings: Nothing is enabled unless ``steps`` names it.

        Raises:
            InvalidSettings: Naming all problems at once.
        """
        settings = _read(environment, target_settings.get(KEY), cls())
        excluded = (*settings.exclude_repos, *_index_images(target_settings))
        return evolve(settings, exclude_repos=excluded)

    @classmethod
    def for_commands(cls, environment: Mapping[str, str]) -> Settings:
        """Read the defaults of the command line's options from the environment."""
        defaults = cls(policy=Policy(), referrers="warn", anchor_tag=None)
        return _read(environment, None, defaults)

    def for_item(self, given: object, place: str) -> tuple[Settings, tuple[str, ...]]:
        """Read what a push item sets differently; also return what is wrong with it."""
        reader = Values({}, given, place)
        changed = _read_for_item(reader, self)
        if isinstance(given, Mapping) and given.get("keep"):
            changed = evolve(changed, policy=evolve(changed.policy, serves_many=False))
        return changed, reader.finish()

    @property
    def ages(self) -> AgeRule:
        """The rule for the ages of kept images."""
        return AgeRule(max_age_days=self.max_age_days, stale=self.stale)

    def covers(self, repository: str) -> bool:
        """Whether a repository is to be merged.

        Args:
            repository (str):
                External name of the repository.

        Returns:
            bool: False if it is excluded, or not among those chosen.
        """
        chosen = not self.repos or any(fnmatchcase(repository, glob) for glob in self.repos)
        return chosen and not any(fnmatchcase(repository, glob) for glob in self.exclude_repos)


def step_options(settings: Settings) -> StepOptions:
    """Say how a step is to carry out its decisions."""
    return StepOptions(
        dry_run=settings.report_only,
        anchor_tag=settings.anchor_tag,
        verify=settings.verify,
        tries=settings.tries,
        ages=settings.ages,
    )


def _read_for_item(reader: Values, defaults: Settings) -> Settings:
    """Read what push items may set as well."""
    policy, parse = defaults.policy, PlatformPattern.named
    return evolve(
        defaults,
        policy=evolve(
            policy,
            match=reader.choice("match", policy.match, get_args(Match)),
            keep=reader.parsed("keep", parse) or policy.keep,
            drop=reader.parsed("drop", parse) or policy.drop,
            mixed_types=reader.choice("mixed_types", policy.mixed_types, ("oci", "fail")),
            single_image=reader.choice("single_image", policy.single_image, get_args(SingleImage)),
        ),
        max_age_days=reader.number("max_age_days", defaults.max_age_days, MOST_DAYS),
        stale=reader.choice("stale", defaults.stale, get_args(Stale)),
        report_only=reader.flag("report_only", defaults.report_only),
    )


def _read(environment: Mapping[str, str], given: object, defaults: Settings) -> Settings:
    """Read all settings; what is given wins over the environment."""
    reader = Values(_from_environment(environment), given)
    settings = evolve(
        _read_for_item(reader, defaults),
        steps=frozenset(reader.parsed("steps", _step)),
        repos=reader.parsed("repos", str),
        exclude_repos=reader.parsed("exclude_repos", str),
        copy=reader.choice("copy", defaults.copy, ("auto", "skopeo", "never")),
        referrers=reader.choice("referrers", defaults.referrers, ("copy", "warn", "ignore")),
        anchor_tag=reader.optional("anchor_tag", defaults.anchor_tag, AnchorTag.parse),
        anchor_days=reader.number("anchor_days", None, MOST_DAYS),
        sign=reader.flag("sign", defaults.sign),
        verify=reader.flag("verify", defaults.verify),
        tries=reader.number("tries", defaults.tries, MOST_TRIES),
        lock=reader.optional("lock", None, check_url),
        lock_aliases=reader.parsed("lock_aliases", _host),
        audit=reader.optional("audit", None, str),
        tls_verify=reader.flag("tls_verify", None),
    )
    if problems := reader.finish():
        raise InvalidSettings(problems)
    return settings


def _step(text: str) -> str:
    if text not in _STEPS:
        raise ValueError(f"{text!r} is none of {', '.join(_STEPS)}")
    return text


class HasMetadata(Protocol):
    """A push item with settings in its metadata."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the host keeps about the item."""


class ItemSettings:
    """The settings of a task, with what push items set differently.

    Raises:
        InvalidSettings: Naming the problems of all items at once.
    """

    def __init__(self, task: Settings, items: Iterable[HasMetadata]) -> None:
        self.task = task
        self._of_items: dict[int, Settings] = {}
        problems: tuple[str, ...] = ()
        for number, item in enumerate(items):
            found, wrong = task.for_item(item.metadata.get(KEY), f"push_items[{number}].{KEY}")
            self._of_items[id(item)] = found
            problems += wrong
        if problems:
            raise InvalidSettings(problems)

    @property
    def all(self) -> frozenset[Settings]:
        """All settings that items of the task have."""
        return frozenset({self.task, *self._of_items.values()})

    def of(self, item: HasMetadata) -> Settings:
        """Return the settings of an item."""
        return self._of_items.get(id(item), self.task)


def _host(text: str) -> str:
    if not is_host(text):
        raise ValueError(f"{text!r}: expected a host with an optional port")
    return text


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Read our variables; an empty one counts as not set, save where the value may be none."""
    found = {
        name[len(PREFIX) :].lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and not _LOGIN.fullmatch(name)
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
