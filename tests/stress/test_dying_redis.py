"""A Redis that dies in the middle: a clear error, and no half-written tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from attrs import define, evolve

from tests.faults.proxy import Exchange, Proxy
from tests.programs import Done, run
from tests.redis_servers import RealRedis
from tests.servers import RealRegistry
from tests.stress.arena import PLATFORMS, Arena, Met
from tests.stress.crew import Crew


@define
class End:
    """Kills a Redis at a certain request for the tag, before the registry gets it."""

    redis: RealRedis
    method: str = "none"
    left: int = 1

    def __call__(self, exchange: Exchange) -> None:
        """Handle an exchange."""
        seen = exchange.seen
        if seen.method == self.method and "/manifests/tag" in seen.target:
            self.left -= 1
            if self.left == 0:
                self.redis.kill()
        exchange.relay()


@pytest.fixture
def end(doomed: RealRedis) -> End:
    return End(doomed)


@pytest.fixture
def proxy(docker_registry_plain: RealRegistry, end: End) -> Iterator[Proxy]:
    with Proxy(docker_registry_plain, end) as proxy:
        yield proxy


@pytest.fixture
def arena(arenas: Mapping[str, Arena], proxy: Proxy) -> Arena:
    """A real registry, reached by way of what ends the Redis."""
    return evolve(arenas["docker-registry"], host=proxy.host)


def merge(arena: Arena, tag: str, redis: RealRedis) -> Done:
    """Merge one image into a tag, with a lock."""
    return run("merge", *arena.arguments(PLATFORMS[0], tag), "--lock", redis.url)


def said(done: Done) -> list[str]:
    """List the lines on standard error that are no mere information."""
    return [line for line in done.err.splitlines() if not line.startswith("INFO: ")]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redis_that_dies_before_the_write_prevents_it(
    arena: Arena, proxy: Proxy, end: End, method: str
) -> None:
    tag, end.method = arena.fresh(), method

    done = merge(arena, tag, end.redis)

    warning, error = said(done)
    assert (done.code, done.reports) == (1, [])
    assert warning.startswith(f"WARNING: {arena.reference(tag)}: the lock of this tag was not")
    assert error.startswith(
        f"ERROR: {arena.reference(tag)}: the lock of this tag was lost, so it was not written: "
        f"Redis at 127.0.0.1:{end.redis.port}: "
    )
    assert [seen.method for seen in proxy.seen] == ["GET", "GET", "HEAD"]
    assert arena.is_untouched(tag)


def test_a_redis_that_dies_during_the_write_does_no_harm(arena: Arena, end: End) -> None:
    tag, end.method = arena.fresh(), "PUT"

    done = merge(arena, tag, end.redis)

    met = Met(tag=tag, done=[done], held=arena.held(tag))
    assert (done.code, met.lost, [*met.flaws()]) == (0, 0, [])
    assert len(met.listed) == 2
    (warning,) = said(done)
    assert "the lock of this tag was not released and will expire" in warning


def test_a_redis_that_is_dead_already_prevents_everything(
    arena: Arena, proxy: Proxy, end: End
) -> None:
    tag = arena.fresh()
    end.redis.kill()

    done = merge(arena, tag, end.redis)

    (error,) = said(done)
    place = f"Redis at 127.0.0.1:{end.redis.port}: "
    assert (done.code, done.reports, proxy.seen) == (1, [], [])
    assert error.startswith(f"ERROR: {arena.reference(tag)}: cannot lock this tag: {place}")
    assert arena.is_untouched(tag)


def test_a_redis_that_dies_among_many_writers_loses_nothing(
    arena: Arena, crew: Crew, end: End
) -> None:
    """It dies when the third is about to write, while the others wait for the lock."""
    end.method, end.left = "PUT", 3

    met = arena.meet(crew, options=("--lock", end.redis.url))

    left = len(PLATFORMS) - 3
    assert (met.lost, met.reported, len(met.errors), [*met.flaws()]) == (0, left, left, [])
    for error in met.errors:
        assert f"cannot lock this tag: Redis at 127.0.0.1:{end.redis.port}: " in error
