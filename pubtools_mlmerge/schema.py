"""Schema: what the JSON of reports and inspections looks like, for programs that read it."""

from __future__ import annotations

import json

VERSION = 1


def report_schema() -> dict[str, object]:
    """Read the JSON Schema of reports of merges, removals and restores.

    Returns:
        dict[str, object]: The schema, by draft 2020-12.
    """
    return _read("report.schema.json")


def inspection_schema() -> dict[str, object]:
    """Read the JSON Schema of inspections of one reference.

    Returns:
        dict[str, object]: The schema, by draft 2020-12.
    """
    return _read("inspection.schema.json")


def _read(name: str) -> dict[str, object]:
    from importlib.resources import files  # noqa: PLC0415 - slow to load, for what is seldom read

    schema: dict[str, object] = json.loads((files(__package__) / name).read_text(encoding="utf-8"))
    return schema
