"""What the benchmarks have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from attrs import frozen
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.registry import SOURCES, Manager, Place


@frozen
class Measure:
    """Measures one side of one figure; all sides of a figure are compared with the last one."""

    benchmark: BenchmarkFixture
    tiny: bool  # whether it matters only that the benchmarks run

    def __call__(
        self,
        names: tuple[str, str],
        run: Callable[[], object],
        before: Callable[[], None] | None = None,
        rounds: int = 7,
    ) -> None:
        self.benchmark.group, self.benchmark.name = names
        rounds, warm = (1, 0) if self.tiny else (rounds, int(rounds > 3))  # noqa: PLR2004
        pedantic: Callable[..., object] = self.benchmark.pedantic
        pedantic(run, setup=before, rounds=rounds, warmup_rounds=warm)


@pytest.fixture
def measure(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Measure:
    return Measure(benchmark, bool(pytestconfig.getoption("--tiny")))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run a registry that this process and its programs trust, without logins of the user."""
    home = tmp_path_factory.mktemp("home")
    bundle = home / "authorities.pem"
    with Manager() as manager, pytest.MonkeyPatch.context() as patch:
        place = manager.place()
        bundle.write_text(place.authority(), encoding="utf-8")
        patch.setenv("HOME", str(home))
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
            patch.setenv(name, str(bundle))
        for number, source in enumerate(SOURCES):
            place.put("app", [f"new-{number}"], source)
        yield place


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tiny", action="store_true", help="each figure once, at the smallest scale")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give items a name that pytest-benchmark 5.3 reads, and that pytest 9.2 dropped."""
    for item in items:
        item.__dict__.setdefault("_nodeid", item.nodeid)
