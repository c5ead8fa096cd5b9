"""Platforms: what an entry of an index runs on, and when two platforms are the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from attrs import evolve, field, frozen

from pubtools_mlmerge.core.references import is_registered_digest
from pubtools_mlmerge.errors import InvalidPlatform

# What `go tool dist list` prints: operating systems and architectures.
_KNOWN_OS = re.compile(
    "aix|android|darwin|dragonfly|freebsd|illumos|ios|js|linux|netbsd|openbsd|plan9|solaris|wasip1"
    "|windows|hurd|nacl|zos|macos|wasi"  # and those it printed once or knows, and common names
)
_KNOWN_ARCHITECTURES = re.compile(
    "386|amd64|arm|arm64|loong64|mips|mips64|mips64le|mipsle|ppc64|ppc64le|riscv64|s390x|wasm"
)
# Other names, of containerd's platform database, Debian and Docker Hub.
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "ppc64el": "ppc64le"}
# These imply a variant, whichever variant is stated.
_FIXED_VARIANTS = {
    **dict.fromkeys(("i386", "i686"), ("386", "")),
    **dict.fromkeys(("armhf", "armv7", "arm32v7"), ("arm", "v7")),
    **dict.fromkeys(("armel", "armv6", "arm32v6"), ("arm", "v6")),
    "arm32v5": ("arm", "v5"),
    "arm64v8": ("arm64", ""),
}
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "7": "v7", "5": "v5", "6": "v6", "8": "v8"},
}
_WINDOWS_BUILD_PARTS = 3  # major.minor.build, without the revision
_GLOB = frozenset("*?[")
NO_PLATFORM = "none"
"""In `keep` and `drop`: entries without a platform."""
_SHORT_DIGEST = re.compile("(?:sha256:)?([0-9a-f]{7,63})")  # the names of no platform
_MOST_PARTS = 3  # os/architecture/variant


def normalize_names(architecture: str, variant: str = "") -> tuple[str, str]:
    """Normalise an architecture and its variant as container runtimes do, to lower case."""
    given, variant = architecture.lower(), variant.lower()
    if given in _FIXED_VARIANTS:
        return _FIXED_VARIANTS[given]
    name = _ARCHITECTURES.get(given, given)
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
            version = _windows_build(version)
            features.discard("win32k")
        return Platform(os, architecture, variant, version, sorted(features))

    @property
    def of_any_version(self) -> Platform | None:
        """The platform that covers all versions of windows; none if this states no version."""
        is_version = self.os == "windows" and self.os_version
        return evolve(self, os_version="") if is_version else None

    @property
    def name(self) -> str:
        """The name in a pattern, as in ``linux/arm/v7`` and ``windows/amd64:10.0.17763``."""
        return f"{self}:{self.os_version}" if self.os_version else str(self)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _windows_build(version: str) -> str:
    """Leave out the revision."""
    return ".".join(version.split(".")[:_WINDOWS_BUILD_PARTS])


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

    A part that is left out matches anything. Glob characters match within one part. A version of
    the operating system follows a colon: ``windows/amd64:10.0.17763``.

    Attributes:
        text (str): The pattern as it was given.
        os (str): Pattern of the operating system.
        architecture (str): Pattern of the architecture.
        variant (str | None): Pattern of the variant, or none for any; empty for platforms without
            one.
        os_version (str | None): Pattern of the version of the operating system; none for any.
        digest (str | None): Digest of the one entry that fits; then the rest does not count.
    """

    text: str
    os: str = "*"
    architecture: str = "*"
    variant: str | None = None
    os_version: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> PlatformPattern:
        """Read one to three parts, separated by slashes.

        They are an architecture, an operating system, ``os/architecture``,
        ``architecture/variant`` or ``os/architecture/variant``.

        Raises:
            InvalidPlatform: When there are more parts, or one is empty.
        """
        name, colon, version = text.strip().lower().partition(":")
        parts = name.split("/")
        if len(parts) > _MOST_PARTS:
            raise InvalidPlatform(text, "expected at most os/architecture/variant")
        named = [*parts, version] if colon else parts
        if not all(part and part.isprintable() and " " not in part for part in named):
            raise InvalidPlatform(text, "a part is empty or has a space")
        # In */arm64 the star is an operating system, but arm*/v7 begins with an architecture.
        is_os = _KNOWN_OS.fullmatch(parts[0]) or parts[0] == "*"
        has_os = len(parts) == _MOST_PARTS or is_os
        os = parts.pop(0) if has_os else "*"
        architecture = parts[0] if parts else "*"
        variant = parts[1] if len(parts) > 1 else None
        states_variant = variant is not None or architecture in _FIXED_VARIANTS
        architecture, normal = normalize_names(architecture, variant or "")
        return cls(
            text,
            "darwin" if os == "macos" else os,
            architecture,
            normal if states_variant else None,
            version if colon else None,
        )

    @classmethod
    def named(cls, text: str) -> PlatformPattern:
        """Read a pattern to keep, drop or remove, where a typing slip would lose platforms.

        Names have to be known to ``go tool dist list``, save an architecture after its operating
        system. ``none`` is for entries without platform, and a digest for one entry.

        Raises:
            InvalidPlatform: When it is malformed, or a name is unknown.
        """
        if is_registered_digest(text.strip()):
            return cls(text, digest=text.strip())
        if text.strip().lower() == NO_PLATFORM:
            return cls(text, os=NO_PLATFORM)
        if set(",=[]").intersection(text):
            problem = "expected os/architecture/variant; a version is windows/amd64:10.0.17763"
            raise InvalidPlatform(text, problem)
        pattern = cls.parse(text)
        os, architecture = pattern.os, pattern.architecture
        if not _GLOB.intersection(os) and not _KNOWN_OS.fullmatch(os):
            raise InvalidPlatform(text, f"unknown operating system {os!r}")
        is_known = _GLOB.intersection(architecture) or _KNOWN_ARCHITECTURES.fullmatch(architecture)
        if os == "*" and not is_known:
            problem = (
                f"unknown architecture; correct it, or write linux/{architecture} if you mean it"
            )
            raise InvalidPlatform(text, problem)
        return pattern

    @classmethod
    def removed(cls, text: str) -> PlatformPattern:
        """Read what is to be removed: as `named`, or the start of a digest, as people see it.

        Raises:
            InvalidPlatform: When it is malformed, or a name is unknown.
        """
        short = _SHORT_DIGEST.fullmatch(text.strip())
        return cls(text, digest=f"sha256:{short[1]}") if short else cls.named(text)

    def among(self, digests: Iterable[str]) -> PlatformPattern:
        """Complete the start of a digest.

        Raises:
            InvalidPlatform: When several digests start like that.
        """
        found = [] if self.digest is None else [d for d in digests if d.startswith(self.digest)]
        if len(found) > 1:
            raise InvalidPlatform(self.text, f"fits several digests: {', '.join(found)}")
        return evolve(self, digest=found[0]) if found else self

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

    def matches(self, platform: Platform) -> bool:
        """Whether every part of the pattern matches a platform, in any spelling."""
        normal = platform.normalized()
        return (
            self.digest is None
            and fnmatchcase(normal.os, self.os)
            and fnmatchcase(normal.architecture, self.architecture)
            and (self.variant is None or fnmatchcase(normal.variant, self.variant))
            and self._fits_version(normal)
        )

    def _fits_version(self, platform: Platform) -> bool:
        version = self.os_version
        if version is not None and platform.os == "windows":
            version = _windows_build(version)
        return version is None or fnmatchcase(platform.os_version.lower(), version)

    def is_nearly(self, platform: Platform) -> bool:
        """Whether it may be a slip for a platform, such as s390 for s390x or arm for arm64."""
        short, long = sorted((self.architecture, platform.architecture), key=len)
        if short == long or _GLOB.intersection(self.architecture):
            return False
        return long.startswith(short) and fnmatchcase(platform.os, self.os)

    def __str__(self) -> str:
        return self.text
