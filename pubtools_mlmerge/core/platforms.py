"""Platforms: what an entry of an index runs on, and when two platforms are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from attrs import evolve, field, frozen

from pubtools_mlmerge.errors import InvalidPlatform

# GOOS values (image-spec, "Image Index", property os).
_KNOWN_OS = re.compile(
    "aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|linux|nacl|netbsd|openbsd|plan9"
    "|solaris|windows|zos"
)
_ARCHITECTURES = {
    "i386": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
}
# Names that imply a variant, whatever variant is stated.
_FIXED_VARIANTS = {"i386": "", "armhf": "v7", "armel": "v6"}
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "7": "v7", "5": "v5", "6": "v6", "8": "v8"},
}
_WINDOWS_BUILD_PARTS = 3  # major.minor.build, without the revision
_GLOB = frozenset("*?[")
_MOST_PARTS = 3  # os/architecture/variant


def normalize_names(architecture: str, variant: str = "") -> tuple[str, str]:
    """Normalise an architecture and its variant as container runtimes do, to lower case.

    The table is that of containerd's platform database.
    """
    given, variant = architecture.lower(), variant.lower()
    name = _ARCHITECTURES.get(given, given)
    variant = _FIXED_VARIANTS.get(given, variant)
    return name, _VARIANTS.get(name, {}).get(variant, variant)


@frozen
class Platform:
    """The platform of an index entry (image-spec, "Image Index", property platform).

    Attributes:
        os (str): Operating system, such as ``linux``.
        architecture (str): CPU architecture, such as ``arm64``.
        variant (str): Variant of the CPU, such as ``v7``; empty if there is none.
        os_version (str): Version of the operating system; empty if there is none.
        os_features (tuple[str, ...]): Features of the operating system that the image needs.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = field(default=(), converter=tuple[str, ...])

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Platform:
        """Read a platform object of an index.

        An absent os is linux, never that of this machine.

        Raises:
            InvalidPlatform: When a property has a wrong type or the architecture is missing.
                The text of the error is the name of the property.
        """
        features = value.get("os.features")
        features = [] if features is None else features
        if not isinstance(features, list) or not all(isinstance(f, str) for f in features):
            raise InvalidPlatform("os.features", "expected an array of strings")
        architecture = _string(value, "architecture")
        if not architecture:
            raise InvalidPlatform("architecture", "expected a string that is not empty")
        return cls(
            os=_string(value, "os") or "linux",
            architecture=architecture,
            variant=_string(value, "variant"),
            os_version=_string(value, "os.version"),
            os_features=features,
        )

    def normalized(self) -> Platform:
        """Normalise the names, so that equal platforms compare equal.

        They are those of the Go toolchain. Versions of windows count up to the build number.
        """
        os = self.os.lower()
        os = "darwin" if os == "macos" else os or "linux"
        architecture, variant = normalize_names(self.architecture, self.variant)
        version, features = self.os_version, set(self.os_features)
        if os == "windows":
            version = ".".join(version.split(".")[:_WINDOWS_BUILD_PARTS])
            features.discard("win32k")
        return Platform(os, architecture, variant, version, sorted(features))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _string(value: Mapping[str, object], name: str) -> str:
    """Read an optional string property; null counts as absent."""
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InvalidPlatform(name, "expected a string")
    return found


@frozen
class PlatformPattern:
    """A pattern of platforms: ``arm64``, ``linux/arm/v7``, ``windows``, ``linux/*``.

    A part that is left out matches anything. Glob characters match within one part.

    Attributes:
        text (str): The pattern as it was given.
        os (str): Pattern of the operating system.
        architecture (str): Pattern of the architecture.
        variant (str | None): Pattern of the variant, or none for any; empty for platforms without
            one.
    """

    text: str
    os: str = "*"
    architecture: str = "*"
    variant: str | None = None

    @classmethod
    def parse(cls, text: str) -> PlatformPattern:
        """Read one to three parts, separated by slashes.

        They are an architecture, an operating system, ``os/architecture``,
        ``architecture/variant`` or ``os/architecture/variant``.

        Raises:
            InvalidPlatform: When there are more parts, or one is empty.
        """
        parts = text.strip().lower().split("/")
        if len(parts) > _MOST_PARTS:
            raise InvalidPlatform(text, "expected at most os/architecture/variant")
        if not all(part and part.isprintable() and " " not in part for part in parts):
            raise InvalidPlatform(text, "a part is empty or has a space")
        os = "*"
        if _names_os(parts):
            os = "darwin" if parts[0] == "macos" else parts[0]
            parts = parts[1:]
        if not parts:
            return cls(text, os)
        return evolve(cls._of_architecture(text, *parts), os=os)

    @classmethod
    def exact(cls, name: str) -> PlatformPattern:
        """Read the name of a platform as `Platform` writes it.

        An architecture fits all its variants; ``linux/amd64`` does not fit ``linux/amd64/v3``.

        Raises:
            InvalidPlatform: When the name is malformed.
        """
        pattern = cls.parse(name)
        if "/" not in name or pattern.variant is not None:
            return pattern
        return evolve(pattern, variant=normalize_names(pattern.architecture)[1])

    @classmethod
    def _of_architecture(
        cls, text: str, architecture: str, variant: str | None = None
    ) -> PlatformPattern:
        if _GLOB.intersection(architecture + (variant or "")):
            return cls(text, architecture=architecture, variant=variant)
        name, normal = normalize_names(architecture, variant or "")
        if variant is None and architecture not in _FIXED_VARIANTS:
            return cls(text, architecture=name)
        return cls(text, architecture=name, variant=normal)

    def matches(self, platform: Platform) -> bool:
        """Whether every part of the pattern matches a platform, in any spelling."""
        normal = platform.normalized()
        return (
            fnmatchcase(normal.os, self.os)
            and fnmatchcase(normal.architecture, self.architecture)
            and (self.variant is None or fnmatchcase(normal.variant, self.variant))
        )

    def __str__(self) -> str:
        return self.text


def _names_os(parts: list[str]) -> bool:
    """Whether the first part is an operating system rather than an architecture."""
    if len(parts) == _MOST_PARTS or _KNOWN_OS.fullmatch(parts[0]) or parts[0] == "macos":
        return True
    # In */arm64 the star is an operating system; in arm*/v7 the first part is an architecture.
    return len(parts) > 1 and parts[0] == "*"
