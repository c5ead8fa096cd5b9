"""A pytest plugin for continuous integration: a run in which a test is skipped or hangs fails.

Loaded with `-p tests.in_ci`. On a developer's machine a missing program skips its tests;
where everything is installed a skip hides something.
"""

from __future__ import annotations

import faulthandler
import os

import pytest

LONGEST = 600  # seconds from the start of a test to that of the next one, or to the end
STDERR = os.dup(2)  # pytest captures what is written to the other one


def pytest_runtest_logstart() -> None:
    """End the process if it hangs in a test or at its end, and show where each thread is."""
    faulthandler.dump_traceback_later(LONGEST, exit=True, file=STDERR)


def skipped(config: pytest.Config) -> int:
    """Count the tests and modules that were skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter else 0


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a success with skips into a failure."""
    if session.exitstatus == pytest.ExitCode.OK and skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why the run fails."""
    if count := skipped(config):
        terminalreporter.write_line(f"ERROR: {count} skipped, and nothing may be", red=True)
