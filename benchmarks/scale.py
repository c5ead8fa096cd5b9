"""The scale of a run: how often, how far away, and how much."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        runs (int):
            Runs of each side that count.
        warm (int):
            Runs of each side before them.
        distances (tuple[int, ...]):
            Milliseconds of a round trip.
        usual (int):
            The round trip where only one is measured.
        tags (tuple[int, ...]):
            Numbers of tags.
        many (int):
            The number of tags where only one is measured.
        threads (int):
            In how many threads that number of tags is merged too.
        growing (int):
            The number of tags over which memory is watched.
        repositories (int):
            Over how many repositories tags are spread.
        entries (tuple[int, ...]):
            Lengths of lists.
    """

    runs: int = 7
    warm: int = 1
    distances: tuple[int, ...] = (0, 5, 20, 80)
    usual: int = 20
    tags: tuple[int, ...] = (1, 10, 100, 1000)
    many: int = 100
    threads: int = 16
    growing: int = 1000
    repositories: int = 50
    entries: tuple[int, ...] = (4, 40, 400, 4000, 12000)


FULL = Scale()
QUICK = Scale(
    runs=1,
    warm=0,
    distances=(0,),
    usual=0,
    tags=(1,),
    many=1,
    threads=2,
    growing=2,
    repositories=1,
    entries=(4,),
)
