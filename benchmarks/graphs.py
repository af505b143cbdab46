"""The graphs whose makespan is measured: who waits for whom, and how long each task sleeps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks by number, upstreams first.

    Attributes:
        upstreams: what each task reads.
        seconds: how long each sleeps.
    """

    name: str
    about: str
    upstreams: Sequence[Sequence[int]]
    seconds: Sequence[float]

    @property
    def count(self) -> int:
        return len(self.upstreams)

    def bound(self, workers: int) -> float:
        """Seconds that no order can beat: the longest path, or the work divided by the workers."""
        paths: list[float] = []
        for ups, seconds in zip(self.upstreams, self.seconds, strict=True):
            paths.append(seconds + max((paths[up] for up in ups), default=0.0))
        return max(max(paths), sum(self.seconds) / workers)


def chains(count: int, seconds: float) -> Graph:
    """As many chains of five as there are tasks for."""
    upstreams = [[task - 1] if task % 5 else [] for task in range(count)]
    return Graph("chains", "chains of 5", upstreams, [seconds] * count)


def fan_out(count: int, seconds: float) -> Graph:
    upstreams = [[0] if task else [] for task in range(count)]
    return Graph("fan-out", "one that all others read", upstreams, [seconds] * count)


def fan_in(count: int, seconds: float) -> Graph:
    upstreams: list[list[int]] = [[] for _ in range(count - 1)]
    return Graph(
        "fan-in", "one that reads all others", [*upstreams, list(range(count - 1))], [seconds] * count
    )


def diamonds(count: int, seconds: float) -> Graph:
    """Groups of four: one, two that read it, one that reads both."""
    steps = ((), (-1,), (-2,), (-2, -1))
    upstreams = [[task + step for step in steps[task % 4]] for task in range(count)]
    return Graph("diamonds", "1 - 2 - 1, again and again", upstreams, [seconds] * count)


def layers(count: int, seconds: float) -> Graph:
    """Ten layers; a task reads up to three of the layer above and sleeps 0.5 to 1.5 times as long."""
    drawn = random.Random(11)
    width = -(-count // 10)
    upstreams = []
    for task in range(count):
        above = range((task // width - 1) * width, task // width * width)
        upstreams.append(
            sorted(drawn.sample(above, min(len(above), drawn.randint(1, 3)))) if task >= width else []
        )
    sleeps = [round(seconds * drawn.uniform(0.5, 1.5), 3) for _ in range(count)]
    return Graph("layers", "random, 10 layers", upstreams, sleeps)


def all_graphs(small: int, large: int, seconds: float) -> list[Graph]:
    """One of each shape; the random one is the large one."""
    return [*(shape(small, seconds) for shape in (chains, fan_out, fan_in, diamonds)), layers(large, seconds)]
