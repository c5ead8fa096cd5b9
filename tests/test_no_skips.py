"""A skipped test fails a run in continuous integration."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

PASSES = "def test_one(): pass\n"
SKIPS = "import pytest\n@pytest.mark.skip(reason='no registry')\ndef test_two(): pass\n"


@pytest.fixture
def run(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    return pytester


def test_a_run_without_skips_succeeds(run: pytest.Pytester) -> None:
    run.makepyfile(PASSES)

    assert run.runpytest_subprocess("-p", "tests.no_skips").ret == 0


def test_a_skip_fails_the_run(run: pytest.Pytester) -> None:
    run.makepyfile(PASSES + SKIPS)

    result = run.runpytest_subprocess("-p", "tests.no_skips")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: 1 skipped, and nothing may be"])


def test_a_skipped_module_fails_the_run(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\npytest.importorskip('a_module_that_is_not')\n" + PASSES)

    assert run.runpytest_subprocess("-p", "tests.no_skips").ret != 0


def test_without_the_plugin_a_skip_is_fine(run: pytest.Pytester) -> None:
    run.makepyfile(PASSES + SKIPS)

    assert run.runpytest_subprocess().ret == 0
