"""Settings: what a target or the environment says about merging."""

from __future__ import annotations

import attrs
import pytest

from pubtools_mlmerge.core.plan import AgeRule, Policy
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.errors import InvalidSettings
from pubtools_mlmerge.merging.decision import AnchorTag
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
    assert read() == read({}) == Settings()
    assert (read().steps, read().anchor_tag) == (frozenset(), AnchorTag("{tag}-{timestamp}"))
    assert (read().sign, read().report_only, read().copy) == (True, False, "auto")


# As the target has it, as the environment has it, and what it becomes.
VALUES: dict[str, tuple[object, str, object]] = {
    "steps": (["push", "tag-docker"], "push, tag-docker,", {"push", "tag-docker"}),
    "match": ("architecture", "architecture", "architecture"),
    "repos": (["a/*", "b"], "a/*,b", ("a/*", "b")),
    "exclude_repos": (("a/b",), "a/b", ("a/b",)),
    "keep": (["arm64"], "arm64", (PlatformPattern.parse("arm64"),)),
    "drop": (["linux/s390x"], "linux/s390x", (PlatformPattern.parse("linux/s390x"),)),
    "single_image": ("replace", "replace", "replace"),
    "mixed_types": ("oci", "oci", "oci"),
    "copy": ("skopeo", "skopeo", "skopeo"),
    "referrers": ("copy", "copy", "copy"),
    "anchor_tag": ("{tag}-{digest}", "{tag}-{digest}", AnchorTag("{tag}-{digest}")),
    "anchor_days": (30, "30", 30),
    "max_age_days": (365, "365", 365),
    "stale": ("drop", "drop", "drop"),
    "sign": (False, "No", False),
    "report_only": (True, "1", True),
    "verify": (False, "f", False),
    "tls_verify": (False, "no", False),
    "tries": (3, "3", 3),
    "lock": ("redis://locks.test:6379/0", "redis://locks.test:6379/0", "redis://locks.test:6379/0"),
    "lock_aliases": (["a.test", "b.test:5"], "a.test, b.test:5", ("a.test", "b.test:5")),
    "audit": ("records", "records", "records"),
}


def found(settings: Settings, name: str) -> object:
    return getattr(settings if hasattr(settings, name) else settings.policy, name)


@pytest.mark.parametrize("name", VALUES)
def test_each_is_read_from_the_target_and_from_the_environment(name: str) -> None:
    given, text, expected = VALUES[name]

    assert found(read({name: given}), name) == expected
    assert found(read(None, {f"MLMERGE_{name.upper()}": text, "PATH": "/bin"}), name) == expected
    assert found(Settings(), name) != expected


def test_every_setting_is_among_them() -> None:
    fields = {each.name for kind in (Settings, Policy) for each in attrs.fields(kind)}

    assert set(VALUES) == fields - {"policy", "annotations", "eligible", "strict", "serves_many"}


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
    target: dict[object, object] = {
        "steps": ["push", "pull"],
        "match": "digest",
        "repos": "a/*",
        "keep": ["linux//x"],
    }
    target |= {"anchor_tag": "{user}", "sign": "yes", "tags": [], 1: 2}
    environment = {"MLMERGE_REPORT_ONLY": "perhaps", "MLMERGE_DROP": "a b"}

    found = problems(target, environment)

    names = (
        "mlmerge.match mlmerge.keep MLMERGE_DROP MLMERGE_REPORT_ONLY mlmerge.steps mlmerge.repos"
    )
    others = "mlmerge.anchor_tag mlmerge.sign mlmerge.1 mlmerge.tags"
    assert [problem.partition(":")[0] for problem in found] == [*names.split(), *others.split()]
    assert "expected platform or architecture" in found[0]
    assert "'pull' is none of push, tag-docker" in found[4]


@pytest.mark.parametrize(
    ("mlmerge", "expected"),
    [
        ("push", "mlmerge: expected an object"),
        ([], "mlmerge: expected an object"),
        ({"steps": [1]}, "mlmerge.steps: expected a list of texts"),
        ({"steps": [["push"]]}, "mlmerge.steps: expected a list of texts"),
        ({"copy": ["auto"]}, "mlmerge.copy: expected auto or skopeo or never"),
        ({"stale": "keep"}, "mlmerge.stale: expected warn or drop or fail"),
        ({"sign": 1}, "mlmerge.sign: expected true or false"),
        ({"anchor_tag": 7}, "mlmerge.anchor_tag: expected a text or null"),
        ({1: 2}, "mlmerge.1: unknown, expected one of "),
    ],
)
def test_wrong_types_are_named(mlmerge: object, expected: str) -> None:
    (problem,) = problems(mlmerge)

    assert problem.startswith(expected)


def test_an_unknown_variable_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Other programs and Kubernetes make such names, and the commands read logins there."""
    logins = {"MLMERGE_CREDS": "alice", "MLMERGE_DEST_PASSWORD": "wonderland"}
    assert read(environment={**logins, "MLMERGE_SERVICE_HOST": "10.0.0.1"}) == Settings()
    assert caplog.messages == ["MLMERGE_SERVICE_HOST is not a setting of pubtools-mlmerge, ignored"]


def test_commands_have_other_defaults_than_tasks() -> None:
    task, commands = read(), Settings.for_commands({})

    assert (task.policy.mixed_types, commands.policy) == ("fail", Policy())
    assert (task.referrers, commands.referrers) == ("ignore", "warn")
    assert Settings.for_commands({"MLMERGE_MIXED_TYPES": "fail"}).policy.mixed_types == "fail"


def test_a_push_item_overrides_what_concerns_the_merge() -> None:
    task = read({"keep": ["arm64"], "max_age_days": 30})
    names = {"match": "architecture", "stale": "drop", "single_image": "fail", "mixed_types": "oci"}
    given = {**names, "drop": ["s390x"], "max_age_days": 90, "report_only": True}

    settings, problems_found = task.for_item(given, "items[0].mlmerge")

    assert problems_found == ()
    assert {name: found(settings, name) for name in names} == names
    assert [str(each) for each in settings.policy.keep + settings.policy.drop] == ["arm64", "s390x"]
    assert settings.ages == AgeRule(max_age_days=90, stale="drop")
    assert settings.report_only
    assert task.for_item(None, "")[0] == task


@pytest.mark.parametrize("name", ["steps", "repos", "copy", "sign", "lock", "tls_verify", "tries"])
def test_a_push_item_overrides_nothing_else(name: str) -> None:
    _, (problem,) = read().for_item({name: None}, "items[3].mlmerge")

    assert problem.startswith(f"items[3].mlmerge.{name}: unknown, expected one of drop, keep, ")


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


IIB = "registry.example.com/ns/iib"


@pytest.mark.parametrize(
    ("key", "value", "excluded"),
    [
        ("quay_operator_repository", "operators/index", "operators/index"),
        ("quay_operator_repository", "operators----index", "operators/index"),
        ("quay_operator_repository", "ns/operators----index", "operators/index"),
        ("iib_index_image", f"{IIB}:v4.9", "iib"),
        ("iib_index_image", f"{IIB}:v4.9", "ns/iib"),
        ("iib_index_image", "registry.example.com:5000/a----iib", "a/iib"),
        ("iib_index_image", f"{IIB}@sha256:0", "ns/iib"),
    ],
)
def test_index_image_repositories_are_excluded(key: str, value: str, excluded: str) -> None:
    settings = Settings.from_task({key: value}, {})

    assert not settings.covers(excluded)
    assert settings.covers("a/app")


@pytest.mark.parametrize("value", [None, "", 5])
def test_other_values_of_the_target_exclude_nothing(value: object) -> None:
    assert Settings.from_task({"iib_index_image": value}, {}).exclude_repos == ()


@pytest.mark.parametrize("number", [0, -1, None, 2.0, "3", True])
@pytest.mark.parametrize(("name", "most"), [("tries", 100), ("max_age_days", 36500)])
def test_numbers_are_within_bounds(name: str, most: int, number: object) -> None:
    given = most + 1 if number is None else number

    assert problems({name: given}) == (f"mlmerge.{name}: expected a number from 1 to {most}",)
    assert found(read({name: most}), name) == most


@pytest.mark.parametrize("text", ["0", "101", "seven", "٣" * 2, "-1", "9" * 5000])
def test_the_environment_cannot_write_other_numbers(text: str) -> None:
    (problem,) = problems({}, {"MLMERGE_TRIES": text})

    assert problem == "MLMERGE_TRIES: expected a number from 1 to 100"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lock", "file:///locks"),
        ("audit", "records"),
        ("anchor_tag", "{tag}-kept"),
        ("max_age_days", "365"),
    ],
)
def test_none_wins_over_the_environment(name: str, text: str) -> None:
    environment = {f"MLMERGE_{name.upper()}": text}

    assert getattr(read(environment=environment), name) is not None
    assert getattr(read({name: None}, environment), name) is None


def test_the_password_of_a_lock_is_shown_by_nothing() -> None:
    url = "redis://:hunter2@locks.test"

    assert "hunter2" not in repr(read({"lock": url}))
    assert "hunter2" not in str(problems({"lock": url + ":port", "tries": 0}))


@pytest.mark.parametrize("name", ["keep", "drop"])
@pytest.mark.parametrize("value", ["s390", "windows/amd64,osver=10.0", "arm/v[67]"])
def test_a_slip_in_a_platform_is_found_when_it_is_read(name: str, value: str) -> None:
    variable = {f"MLMERGE_{name.upper()}": value}
    (of_target,) = problems({name: [value]})
    (of_item,) = Settings().for_item({name: [value]}, "items[0]")[1]

    assert of_target.startswith(f"mlmerge.{name}: invalid platform ")
    assert of_item.startswith(f"items[0].{name}: invalid platform ")
    for environment in (read, lambda _, e: Settings.for_commands(e)):
        with pytest.raises(InvalidSettings, match=f"MLMERGE_{name.upper()}: invalid platform "):
            environment(None, variable)


def test_keep_of_a_target_serves_many_tags_and_that_of_an_item_or_a_command_one() -> None:
    task = read({"keep": ["arm64"]})

    assert task.policy.serves_many
    assert task.for_item({"drop": ["amd64"]}, "")[0].policy.serves_many
    assert not task.for_item({"keep": ["s390x"]}, "")[0].policy.serves_many
    assert not Settings.for_commands({"MLMERGE_KEEP": "arm64"}).policy.serves_many
