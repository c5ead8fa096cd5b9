"""Platforms: containerd's table, slots and patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.platforms import Platform, PlatformPattern, normalize_names
from pubtools_mlmerge.errors import InvalidPlatform
from tests.factories import each

NORMALISED = {
    "386": "i386 i386/v2 i686",
    "386/sse2": "386/sse2",
    "amd64": "x86_64 x86-64 X86_64/V1 amd64 amd64/v1",
    "amd64/v2": "amd64/v2",
    "amd64/v3": "amd64/v3",
    "amd64/v4": "x86_64/v4",
    "amd64/other": "amd64/other",
    "arm64": "aarch64 arm64v8 arm64 arm64/8 arm64/v8 aarch64/v8.0",
    "arm64/v9": "arm64/9 arm64/9.0 arm64/v9.0 arm64/v9",
    "arm64/v8.1": "arm64/v8.1",
    "arm64/v9.2": "arm64/v9.2",
    "arm/v5": "arm/5",
    "arm/v6": "armel armel/v7 arm/6 ARM/V6",
    "arm/v7": "armv7 arm32v7 armhf armhf/v6 arm arm/7 arm/v7",
    "arm/v8": "arm/8 arm/v8",
    "arm/other": "arm/other",
    "ppc64le": "ppc64el ppc64le",
    "ppc64le/power9": "ppc64le/Power9",
    "mips64el": "mips64el",
    "s390x": "S390X",
    "riscv64/rva20u64": "riscv64/rva20u64",
    "unknown": "unknown",
}


@pytest.mark.parametrize("expected", NORMALISED)
def test_names_are_normalised_as_containerd_does(expected: str) -> None:
    for spelling in NORMALISED[expected].split():
        assert "/".join(filter(None, normalize_names(*spelling.split("/")))) == expected, spelling


def test_systems_are_normalised_and_never_taken_from_this_machine() -> None:
    given = ["", "Linux", "macOS", "darwin", "WINDOWS"]

    normal = [Platform(os, "amd64").normalized().os for os in given]

    assert normal == ["linux", "linux", "darwin", "darwin", "windows"]


@pytest.mark.parametrize(
    ("os", "version", "expected"),
    [
        ("windows", "10.0.17763.2114", "10.0.17763"),
        ("windows", "10.0.17763", "10.0.17763"),
        ("windows", "10.0", "10.0"),
        ("windows", "10.0.17763.1.2", "10.0.17763"),
        ("windows", "", ""),
        ("linux", "1.2.3.4", "1.2.3.4"),
    ],
)
def test_windows_versions_count_up_to_the_build_number(
    os: str, version: str, expected: str
) -> None:
    assert Platform(os, "amd64", os_version=version).normalized().os_version == expected


def test_features_are_sorted_and_counted_once_and_win32k_is_part_of_windows() -> None:
    def features(os: str, *stated: str) -> tuple[str, ...]:
        return Platform(os, "amd64", os_features=stated).normalized().os_features

    assert features("linux", *"gecafdbgbd") == tuple("abcdefg")
    assert features("windows", "win32k", "x") == ("x",)
    assert features("linux", "win32k") == ("win32k",)


NAMES = st.one_of(
    st.sampled_from(
        ["", "i386", "x86_64", "amd64", "aarch64", "arm64", "armhf", "armel", "arm", "s390x"]
    ),
    st.text(max_size=5),
)
VARIANTS = st.one_of(
    st.sampled_from(["", "v1", "5", "6", "7", "8", "v8", "v8.0", "9", "9.0", "v9.0", "V7"]),
    st.text(max_size=3),
)
PLATFORMS = st.builds(
    Platform,
    os=st.sampled_from(["", "linux", "Windows", "macos", "unknown"]),
    architecture=NAMES,
    variant=VARIANTS,
    os_version=st.sampled_from(["", "10.0.17763.1", "1.2.3.4"]),
    os_features=st.lists(st.sampled_from(["win32k", "a", "b"]), max_size=3),
)


@given(PLATFORMS)
def test_normalising_twice_changes_nothing(platform: Platform) -> None:
    normal = platform.normalized()

    assert normal.normalized() == normal
    assert hash(normal.normalized()) == hash(normal)


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (Platform("linux", "amd64"), "linux/amd64"),
        (Platform("linux", "arm", "v7"), "linux/arm/v7"),
        (Platform("", "arm64"), "arm64"),
        (Platform("windows", "amd64", os_version="10.0.17763.1"), "windows/amd64"),
    ],
)
def test_a_platform_is_written_with_slashes(platform: Platform, expected: str) -> None:
    assert str(platform) == expected


def test_a_platform_object_is_read_in_full() -> None:
    value: dict[str, object] = {
        "os": "windows",
        "architecture": "amd64",
        "variant": "v2",
        "os.version": "10.0.17763.1",
        "os.features": ["win32k"],
        "features": ["sse4"],
        "unknown": 1,
    }

    expected = Platform("windows", "amd64", "v2", "10.0.17763.1", ("win32k",))
    assert Platform.from_json(value) == expected


def test_null_properties_count_as_absent() -> None:
    names = ("os", "variant", "os.version", "os.features")

    read = Platform.from_json({"architecture": "arm64", **dict.fromkeys(names)})

    assert read == Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *each("os", 0, 1, True, ["linux"], {}),
        *each("variant", 0, 7, False, ["v7"], {}),
        *each("os.version", 0, 1.5, True, ["10.0"], {}),
        *each("architecture", None, "", 386, True, ["amd64"], {}),
        *each("os.features", "win32k", "", 0, 1, False, {}, {"a": 1}, [1], ["a", None]),
    ],
)
def test_a_property_of_a_wrong_type_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidPlatform) as caught:
        Platform.from_json({"architecture": "amd64", name: value})

    assert caught.value.text == name
    assert caught.value.problem.startswith("expected ")


LINUX_ARM_V6 = Platform("linux", "arm", "v6")
LINUX_ARM = Platform("linux", "arm")
LINUX_ARM64 = Platform("linux", "aarch64", "v8")
LINUX_AMD64 = Platform("linux", "x86_64")
LINUX_AMD64_V3 = Platform("linux", "amd64", "v3")
LINUX_386 = Platform("linux", "i386")
WINDOWS = Platform("windows", "amd64", os_version="10.0.17763.1")
DARWIN = Platform("macos", "arm64")
LINUX = (LINUX_ARM_V6, LINUX_ARM, LINUX_ARM64, LINUX_AMD64, LINUX_AMD64_V3, LINUX_386)
EVERYTHING = (*LINUX, WINDOWS, DARWIN)


MATCHING = {
    "arm64 aarch64 arm64/v8 */arm64 aarch64/*": (LINUX_ARM64, DARWIN),
    "linux/arm64 linux/arm64/v8 Linux/AArch64": (LINUX_ARM64,),
    "arm arm/* arm/v[67] arm/v?": (LINUX_ARM_V6, LINUX_ARM),
    "arm/v6 armel */*/v6": (LINUX_ARM_V6,),
    "armhf linux/armhf linux/arm/7 arm*/v7 armhf/*": (LINUX_ARM,),
    "amd64": (LINUX_AMD64, LINUX_AMD64_V3, WINDOWS),
    "x86_64/v1": (LINUX_AMD64, WINDOWS),
    "linux/amd64/v1": (LINUX_AMD64,),
    "linux/amd64/v3 amd64/v*": (LINUX_AMD64_V3,),
    "i386 386": (LINUX_386,),
    "windows windows/* win*/amd64/* windows/x86_64/*": (WINDOWS,),
    "windows:10.0.17763.9 amd64:10.0.17763.9 windows:10.0.* *:*.17763": (WINDOWS,),
    "macos darwin macos/arm64": (DARWIN,),
    "linux": LINUX,
    "arm*": (LINUX_ARM_V6, LINUX_ARM, LINUX_ARM64, DARWIN),
    "* */* */*/*": EVERYTHING,
    "s390x solaris/amd64": (),
}


@pytest.mark.parametrize("patterns", MATCHING)
def test_a_pattern_matches(patterns: str) -> None:
    for text in patterns.split():
        chosen = PlatformPattern.parse(f" {text} ")

        matching = tuple(platform for platform in EVERYTHING if chosen.matches(platform))
        assert matching == MATCHING[patterns], text


BLANK = ["", " ", "/", "linux/", "/arm64", "linux//v7", "a b", "linux/a\tb", "a\x00", "a\nb"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *[(text, "is empty or has a space") for text in BLANK],
        ("linux/arm/v7/x", "at most os/architecture/variant"),
    ],
)
def test_a_malformed_pattern_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidPlatform, match=problem) as caught:
        PlatformPattern.parse(text)

    assert caught.value.text == text
    with pytest.raises(InvalidPlatform):
        PlatformPattern.exact(text)


@pytest.mark.parametrize(
    ("name", "matching", "other"),
    [
        ("amd64", Platform("linux", "amd64", "v3"), LINUX_ARM64),
        ("linux/amd64", LINUX_AMD64, LINUX_AMD64_V3),
        ("linux/amd64/v3", LINUX_AMD64_V3, LINUX_AMD64),
        ("linux/arm/v7", LINUX_ARM, LINUX_ARM_V6),
        ("linux/arm", LINUX_ARM, LINUX_ARM_V6),
    ],
)
def test_an_exact_name_of_a_platform_fits_no_other_variant(
    name: str, matching: Platform, other: Platform
) -> None:
    pattern = PlatformPattern.exact(name)

    assert pattern.matches(matching)
    assert not pattern.matches(other)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        *[(name, "linux/amd64") for name in ("amd64", "x86-64", "x86_64", "X86_64", "linux/*")],
        *[(name, "linux/386") for name in ("386", "i386", "i686")],
        *[(name, "linux/arm64") for name in ("arm64", "aarch64", "arm64v8", "arm64/v8")],
        *[(name, "linux/arm/v7") for name in ("arm", "arm32v7", "armv7", "armhf", "arm/v7")],
        *[(name, "linux/arm/v6") for name in ("armel", "arm/*", "a?m/v6")],
        *[(name, "linux/ppc64le") for name in ("ppc64le", "ppc64el", "linux/ppc64el")],
        *[(name, "linux/sparc64") for name in ("linux/sparc64", "linux", "sparc*")],
        *[(name, "wasi/wasm32") for name in ("wasi/wasm32", "wasi")],
        *[(name, "darwin/arm64") for name in ("macos", "darwin/arm64", "*")],
        *[(name, "windows/amd64") for name in ("windows", "windows/amd64:10.0.17763.5")],
    ],
)
def test_a_known_name_or_a_pattern_may_be_kept_or_dropped(text: str, normal: str) -> None:
    os, architecture, *variant = normal.split("/")
    version = "10.0.17763.1" if os == "windows" else ""
    platform = Platform(os, architecture, "".join(variant), version)

    assert PlatformPattern.named(text).matches(platform)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *[(name, "unknown architecture") for name in ("s390", "amd46", "sparc64", "arm65/v8")],
        *[(name, "unknown architecture") for name in ("linx/amd64", "all", "wndows")],
        ("linx/amd64/v1", "unknown operating system"),
        *[
            (text, "a version is windows/amd64:10.0.17763")
            for text in ("windows/amd64,osver=10.0", "arm64,amd64", "osver=10.0", "arm/v[67]", "[")
        ],
        ("", "a part is empty"),
        ("windows/amd64:", "a part is empty"),
        ("a/b/c/d", "at most os/architecture/variant"),
    ],
)
def test_what_may_be_a_slip_is_not_read(text: str, problem: str) -> None:
    with pytest.raises(InvalidPlatform, match=problem):
        PlatformPattern.named(text)


def test_a_version_is_matched_up_to_the_build_number() -> None:
    pattern = PlatformPattern.parse("windows/amd64:10.0.17763")

    assert pattern.matches(WINDOWS)
    assert not pattern.matches(Platform("windows", "amd64", os_version="10.0.20348.1"))
    assert not pattern.matches(Platform("windows", "amd64"))
    assert PlatformPattern.parse(WINDOWS.name).matches(WINDOWS)


@pytest.mark.parametrize("version", ["14.1-RELEASE", "6.1.2.3"])
def test_a_version_of_another_system_is_matched_in_full_as_it_is_shown(version: str) -> None:
    stated = Platform("freebsd", "amd64", os_version=version).normalized()
    others = [Platform("freebsd", "amd64", os_version=text) for text in ("", "6.1.2", "14.1")]

    pattern = PlatformPattern.named(stated.name)

    assert pattern.matches(stated)
    assert not any(map(pattern.matches, others))


@pytest.mark.parametrize("text", ["none", " None ", "sha256:" + "a" * 64])
def test_what_has_no_platform_can_be_named(text: str) -> None:
    pattern = PlatformPattern.named(text)

    assert not any(map(pattern.matches, EVERYTHING))
    assert pattern.digest == (text if "sha256" in text else None)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("linux/s390", True),
        ("s390x", False),
        ("s39*", False),
        ("*", False),
        ("windows/s390", False),
    ],
)
def test_a_similar_name_may_be_a_slip(pattern: str, expected: bool) -> None:
    assert PlatformPattern.parse(pattern).is_nearly(Platform("linux", "s390x")) is expected


def test_a_pattern_is_written_as_it_was_given() -> None:
    assert str(PlatformPattern.parse("Linux/AArch64")) == "Linux/AArch64"


@given(PLATFORMS.filter(lambda p: p.architecture.isalnum() and p.variant.isalnum()))
def test_the_text_of_a_platform_matches_it(platform: Platform) -> None:
    spelled = Platform(platform.os or "linux", platform.architecture, platform.variant)

    assert PlatformPattern.parse(str(spelled)).matches(platform)
