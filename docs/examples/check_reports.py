"""Check reports against their schema: check_reports.py <REPORTS."""

from __future__ import annotations

import json
import sys

from jsonschema import Draft202012Validator

from pubtools_mlmerge.reports.report import report_schema

VALIDATOR = Draft202012Validator(report_schema())

for line in sys.stdin:
    VALIDATOR.validate(json.loads(line))
