"""Ages: dates as images state them, and what a rule makes of them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.cli.options import merge_settings_of
from pubtools_mlmerge.cli.parsers import new_parser
from pubtools_mlmerge.core.ages import age_of, find_stale, parse_time, with_ages
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import check_shrink, merge
from pubtools_mlmerge.core.plan import Age, AgeRule, Entry, Plan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ShrinkError
from pubtools_mlmerge.reports.report import is_noteworthy, to_json, to_text
from tests.factories import attestation, digest, digests, entry, index
from tests.programs import own_environment

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
NEW_YEAR = datetime(2023, 1, 1, tzinfo=timezone.utc)
OLD, FRESH = Age(NEW_YEAR, 1096), Age(datetime(2025, 12, 31, tzinfo=timezone.utc), 1)
UNKNOWN = Age(problem="no date is stated")
YEAR = AgeRule(max_age_days=365)
SAID = "older than 365 days"
TAG = Reference.parse("quay.io/ns/app:1")

ARM, S390X = digest("linux/arm64@old"), digest("linux/s390x@old")
SOURCE = index("linux/amd64@new")
OF_S390X = attestation(S390X)
DESTINATION = index("linux/amd64@old", "linux/arm64@old", "linux/s390x@old", OF_S390X)
AGES = {ARM: FRESH, S390X: OLD}


# Dates


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("2023-01-01T00:00:00Z", 0),
        ("2023-01-01t00:00:00z", 0),
        ("2023-01-01 00:00:00+00:00", 0),
        ("2023-01-01T00:00:00.123456789Z", 0),
        ("2023-01-01T05:30:00+05:30", 0),
        ("2022-12-31T16:00:00.5-08:00", 0),
        ("2022-12-31T23:59:60Z", -1),  # a leap second is taken for the one before
    ],
)
def test_a_date_is_read_in_any_form_of_rfc_3339(text: str, second: int) -> None:
    assert parse_time(text) == NEW_YEAR + timedelta(seconds=second)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2023-01-01",
        "2023-01-01T00:00:00",
        "2023-02-30T00:00:00Z",
        "2023-01-01T24:00:00Z",
        "2023-01-01T00:00:61Z",
        "2023-01-01T00:00:00+24:00",
        "2023-01-01T00:00:00+01:60",
        "2023-01-01T00:00:00.Z",
        "2023-01-01T00:00:00Z\n",
        "٢٠٢٣-01-01T00:00:00Z",
        "1672531200",
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    assert parse_time(text) is None


@given(
    st.datetimes(min_value=datetime(2013, 1, 2), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001
    st.integers(-1439, 1439),
    st.sampled_from(["", ".5", ".000000001"]),
)
def test_a_date_means_one_time_in_every_zone(naive: datetime, offset: int, fraction: str) -> None:
    zone = timezone(timedelta(minutes=offset))
    time = naive.replace(microsecond=0, tzinfo=timezone.utc)
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    local = time.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")

    read = parse_time(f"{local}{fraction}{sign}{minutes // 60:02}:{minutes % 60:02}")

    assert read == time


@pytest.mark.parametrize(
    ("stated", "days"),
    [
        ("2025-12-30T12:00:01Z", 1),
        ("2025-12-30T12:00:00Z", 2),
        ("2026-01-02T12:00:00Z", 0),  # a clock may be a day ahead
        ("2013-01-01T01:00:00+01:00", 4748),
    ],
)
def test_an_age_is_in_whole_days_from_a_date_in_utc(stated: str, days: int) -> None:
    age = age_of(stated, NOW)

    assert (age.days, age.created) == (days, parse_time(stated))
    assert age.created is not None
    assert age.created.tzinfo is timezone.utc


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        (None, "no date is stated"),
        ("last week", "'last week' is not a date"),
        ("\x1b[2J" + "x" * 100, f"'?[2J{'x' * 36} …' is not a date"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z is before 2013"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00 is before 2013"),
        ("2012-12-31T23:59:59Z", "2012-12-31T23:59:59Z is before 2013"),
        ("2026-01-02T12:00:01Z", "2026-01-02T12:00:01Z is in the future"),
        ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59-14:00 is in the future"),
    ],
)
def test_a_date_that_cannot_be_true_makes_the_age_unknown(stated: str | None, problem: str) -> None:
    assert age_of(stated, NOW) == Age(None, None, problem)


# The rule


def test_what_is_older_than_the_rule_allows_is_stale() -> None:
    ages = {"a": Age(days=365), "b": Age(days=366), "c": UNKNOWN}

    assert find_stale(ages, YEAR) == {"b": "older than 365 days"}
    assert find_stale(ages, AgeRule(shown=True, stale="fail")) == {}


@pytest.mark.parametrize(
    ("rule", "asked"),
    [(AgeRule(), False), (AgeRule(stale="drop"), False), (YEAR, True), (AgeRule(shown=True), True)],
)
def test_ages_are_asked_for_a_rule_or_to_be_shown(rule: AgeRule, asked: bool) -> None:
    assert rule.needs_ages is asked


# The plan


def dropping() -> Plan[Index]:
    """Plan without the old s390x."""
    return with_ages(merge(SOURCE, DESTINATION, stale={S390X: SAID}), AGES, {S390X: SAID})


def told(plan: Plan[Index]) -> list[tuple[str, str, int | None]]:
    """List fate, reason and age of what the destination had."""
    return [(e.fate, e.reason, e.age_days) for e in plan.entries if e.fate in ("kept", "dropped")]


def test_what_is_too_old_goes_with_its_attestations() -> None:
    plan = dropping()

    assert digests(plan.result) == [digest("linux/amd64@new"), ARM]
    assert told(plan) == [
        ("kept", "only the destination has it", 1),
        ("dropped", SAID, 1096),
        ("dropped", "its image is not in the result", None),
    ]
    assert plan.too_old == {S390X}


@pytest.mark.parametrize(
    ("source", "destination", "old", "fates"),
    [
        pytest.param(
            SOURCE,
            index(entry("linux/arm/v6", seed="a"), entry("linux/arm/v7", seed="a")),
            ["a"],
            ["added", "dropped", "dropped"],
            id="an image of two platforms is dropped from both",
        ),
        pytest.param(
            SOURCE,
            DESTINATION,
            ["linux/s390x@old", "linux/arm64@old"],
            ["replaced", "dropped", "dropped", "dropped"],
            id="all is too old",
        ),
        pytest.param(
            SOURCE, index(entry(None, seed="a")), ["a"], ["added", "dropped"], id="no platform"
        ),
        pytest.param(
            index("linux/amd64@new", entry("linux/arm/v7", seed="a")),
            index(entry("linux/arm/v6", seed="a"), attestation(digest("a"))),
            ["a"],
            ["added", "added", "kept", "dropped"],
            id="attestations stay with an image that the source has as well",
        ),
    ],
)
def test_what_is_too_old_is_dropped(
    source: Index, destination: Index, old: list[str], fates: list[str]
) -> None:
    plan = merge(source, destination, stale={digest(seed): SAID for seed in old})

    assert [e.fate for e in plan.entries] == fates
    assert plan.changed
    assert (plan.result is source) == ("kept" not in fates)


def test_what_stays_although_it_is_too_old_says_so_and_changes_no_decision() -> None:
    plan = merge(SOURCE, DESTINATION)

    dated = with_ages(plan, {**AGES, ARM: UNKNOWN}, {S390X: SAID})

    assert told(dated) == [
        ("kept", "only the destination has it; age unknown: no date is stated", None),
        ("kept", f"only the destination has it; {SAID}", 1096),
        ("kept", "only the destination has it", None),
    ]
    assert (dated.result, dated.changed, dated.too_old) == (plan.result, plan.changed, frozenset())
    assert [e.fate for e in dated.entries] == [e.fate for e in plan.entries]


def test_a_digest_that_goes_for_another_reason_did_not_go_for_its_age() -> None:
    same = [entry(platform, seed="a") for platform in ("linux/amd64", "linux/amd64/v2")]
    plan = merge(SOURCE, index("linux/amd64@old", *same))

    dated = with_ages(plan, {digest("a"): OLD}, {digest("a"): SAID})

    assert [(e.fate, e.age_days) for e in dated.entries[1:]] == [("kept", 1096), ("dropped", None)]
    assert dated.too_old == frozenset()


def test_a_tag_may_lose_what_is_too_old_and_nothing_else() -> None:
    check_shrink(TAG, dropping(), Policy())

    with pytest.raises(ShrinkError) as caught:
        check_shrink(TAG, evolve(dropping(), result=SOURCE), Policy())

    assert caught.value.lost == ("linux/arm64",)


# The report


def test_the_report_has_the_age_of_each_entry_that_was_asked_for_its_age() -> None:
    plan = merge(SOURCE, DESTINATION)
    dated, bare = (
        Report.of(each, TAG.tagged("new"), TAG)
        for each in (with_ages(plan, {S390X: OLD, ARM: UNKNOWN}, {}), plan)
    )

    entries = json.loads(to_json(dated))["entries"]
    header, *rows = to_text(dated, every=True).splitlines()[:5]

    absent = ("absent", "absent")
    assert [(e.get("created", "absent"), e.get("age_days", "absent")) for e in entries] == [
        *(absent, (None, None), ("2023-01-01T00:00:00Z", 1096), absent)
    ]
    shown = [row[header.index("AGE") :].split("  ")[0] for row in rows]
    assert shown == ["-", "unknown", "1096 days", "-"]
    assert "AGE" not in to_text(bare)
    assert "age_days" not in to_json(bare)


@pytest.mark.parametrize(
    ("days", "is_stale", "expected"),
    [(365, False, False), (366, False, True), (10, True, True), (None, False, False)],
)
def test_an_image_is_old_by_the_rule_or_after_a_year(
    days: int | None, is_stale: bool, expected: bool
) -> None:
    (listed,) = index("linux/s390x").manifests
    kept = Entry(listed, "kept", "", age=Age(days=days), is_stale=is_stale)

    assert is_noteworthy(kept) == expected
    assert not is_noteworthy(evolve(kept, fate="dropped"))


# The command line


def rule(*options: str, **variables: str) -> AgeRule:
    with own_environment(**variables):
        return merge_settings_of(new_parser("merge", "merge").parse_args(options)).ages


def test_arguments_win_over_the_environment() -> None:
    env = {"MLMERGE_MAX_AGE_DAYS": "30", "MLMERGE_STALE": "fail"}

    assert rule(**env) == AgeRule(max_age_days=30, stale="fail")
    assert rule("--max-age-days=9", **env) == AgeRule(max_age_days=9, stale="fail")
    assert rule("--max-age-days=9", "--stale=drop", **env) == AgeRule(max_age_days=9, stale="drop")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        *((f"--max-age-days={n}", "--max-age-days: expected a number") for n in (0, -1, 36501)),
        ("--stale=drop", "--stale needs --max-age-days"),
    ],
)
def test_a_number_of_days_has_bounds_and_is_needed(option: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        rule(option)
