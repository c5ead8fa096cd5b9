"""Settings: what a target or the environment says about merging."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.anchors import AnchorTag
from pubtools_mlmerge.errors import InvalidSettings
from pubtools_mlmerge.settings import Settings


def read(mlmerge: object = None, environment: dict[str, str] | None = None) -> Settings:
    """Read settings with nothing else in the target."""
    target: dict[str, object] = {} if mlmerge is None else {"mlmerge": mlmerge}
    return Settings.from_task(target, environment or {})


def problems(mlmerge: object, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as caught:
        read(mlmerge, environment)
    return caught.value.problems


def test_nothing_is_enabled_by_default() -> None:
    assert read() == Settings()
    assert read({}).steps == frozenset()
    assert read().anchor_tag == AnchorTag("{tag}-{timestamp}")
    assert (read().sign, read().report_only, read().copy) == (True, False, "auto")


def test_all_of_them_are_read_from_the_target() -> None:
    settings = read(
        {
            "steps": ["push", "tag-docker"],
            "match": "architecture",
            "repos": ["a/*"],
            "exclude_repos": ("a/b",),
            "keep": ["arm64"],
            "drop": ["linux/s390x"],
            "single_image": "wrap",
            "mixed_types": "fail",
            "copy": "skopeo",
            "anchor_tag": "{tag}-{digest}",
            "sign": False,
            "report_only": True,
        }
    )

    assert settings.steps == {"push", "tag-docker"}
    assert (settings.repos, settings.exclude_repos) == (("a/*",), ("a/b",))
    policy = settings.policy
    assert (policy.match, policy.single_image, policy.mixed_types) == (
        "architecture",
        "wrap",
        "fail",
    )
    assert [str(pattern) for pattern in (*policy.keep, *policy.drop)] == ["arm64", "linux/s390x"]
    assert (settings.copy, settings.sign, settings.report_only) == ("skopeo", False, True)
    assert settings.anchor_tag == AnchorTag("{tag}-{digest}")


def test_the_environment_gives_the_same() -> None:
    settings = read(
        None,
        {
            "MLMERGE_STEPS": "push, tag-docker,",
            "MLMERGE_KEEP": "arm64,linux/arm/v7",
            "MLMERGE_COPY": "never",
            "MLMERGE_ANCHOR_TAG": "{digest}",
            "MLMERGE_SIGN": "No",
            "MLMERGE_REPORT_ONLY": "1",
            "PATH": "/bin",
        },
    )

    assert settings.steps == {"push", "tag-docker"}
    assert [str(pattern) for pattern in settings.policy.keep] == ["arm64", "linux/arm/v7"]
    assert (settings.copy, settings.anchor_tag) == ("never", AnchorTag("{digest}"))
    assert (settings.sign, settings.report_only) == (False, True)


def test_the_target_wins_over_the_environment() -> None:
    environment = {"MLMERGE_STEPS": "push", "MLMERGE_COPY": "never"}

    settings = read({"steps": []}, environment)

    assert (settings.steps, settings.copy) == (frozenset(), "never")


@pytest.mark.parametrize(
    ("mlmerge", "environment"),
    [({"anchor_tag": None}, {}), ({"anchor_tag": ""}, {}), ({}, {"MLMERGE_ANCHOR_TAG": ""})],
)
def test_no_anchor_tag_is_a_choice(mlmerge: object, environment: dict[str, str]) -> None:
    assert read(mlmerge, environment).anchor_tag is None


def test_null_stands_for_the_default() -> None:
    names = ("steps", "match", "repos", "keep", "copy", "sign", "report_only")

    assert read(dict.fromkeys(names)) == Settings()


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        {
            "steps": ["push", "pull"],
            "match": "digest",
            "repos": "a/*",
            "keep": ["linux//x"],
            "anchor_tag": "{user}",
            "sign": "yes",
            "tags": [],
        },
        {"MLMERGE_REPORT_ONLY": "perhaps", "MLMERGE_DROP": "a b"},
    )

    assert [problem.partition(":")[0] for problem in found] == [
        "mlmerge.steps",
        "mlmerge.repos",
        "mlmerge.match",
        "mlmerge.keep",
        "MLMERGE_DROP",
        "mlmerge.anchor_tag",
        "mlmerge.sign",
        "MLMERGE_REPORT_ONLY",
        "mlmerge.tags",
    ]
    assert "'pull' is none of push, tag-docker" in found[0]
    assert "expected platform or architecture" in found[2]


@pytest.mark.parametrize(
    ("mlmerge", "expected"),
    [
        ("push", "mlmerge: expected an object"),
        ([], "mlmerge: expected an object"),
        ({"steps": [1]}, "mlmerge.steps: expected a list of texts"),
        ({"steps": [["push"]]}, "mlmerge.steps: expected a list of texts"),
        ({"copy": ["auto"]}, "mlmerge.copy: expected auto or skopeo or never"),
        ({"sign": 1}, "mlmerge.sign: expected true or false"),
        ({"anchor_tag": 7}, "mlmerge.anchor_tag: expected a text or null"),
        ({1: 2}, "mlmerge.1: unknown, there are "),
    ],
)
def test_wrong_types_are_told(mlmerge: object, expected: str) -> None:
    (problem,) = problems(mlmerge)

    assert problem.startswith(expected)


def test_an_unknown_variable_is_told_by_its_name() -> None:
    (problem,) = problems(None, {"MLMERGE_STEP": "push"})

    assert problem.startswith("MLMERGE_STEP: unknown, there are anchor_tag, copy, ")


@pytest.mark.parametrize(
    ("chosen", "excluded", "expected"),
    [
        ([], [], True),
        (["a/*"], [], True),
        (["b/*", "*/app"], [], True),
        (["b/*"], [], False),
        ([], ["a/*"], False),
        (["a/*"], ["a/app"], False),
        (["A/*"], [], False),
    ],
)
def test_repositories_are_chosen_by_patterns(
    chosen: list[str], excluded: list[str], expected: bool
) -> None:
    assert read({"repos": chosen, "exclude_repos": excluded}).covers("a/app") == expected


@pytest.mark.parametrize(
    ("target", "excluded"),
    [
        ({"quay_operator_repository": "operators/index"}, "operators/index"),
        ({"quay_operator_repository": "operators----index"}, "operators/index"),
        ({"quay_operator_repository": "ns/operators----index"}, "operators/index"),
        ({"iib_index_image": "registry.example.com/ns/iib:v4.9"}, "iib"),
        ({"iib_index_image": "registry.example.com/ns/iib:v4.9"}, "ns/iib"),
        ({"iib_index_image": "registry.example.com:5000/a----iib"}, "a/iib"),
        ({"iib_index_image": "registry.example.com/ns/iib@sha256:0"}, "ns/iib"),
    ],
)
def test_index_image_repositories_are_excluded(target: dict[str, object], excluded: str) -> None:
    settings = Settings.from_task(target, {})

    assert not settings.covers(excluded)
    assert settings.covers("a/app")


@pytest.mark.parametrize("value", [None, "", 5])
def test_other_values_of_the_target_exclude_nothing(value: object) -> None:
    assert Settings.from_task({"iib_index_image": value}, {}).exclude_repos == ()
