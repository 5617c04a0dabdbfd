"""Measurements in turn, for a machine that is not equally fast all the time."""

import statistics
import time
from collections.abc import Callable, Hashable

THREADS = (1, 2)
# Seconds after which no further round begins.
PATIENCE = 120.0


def in_turn(engines: dict[Hashable, Callable[[float], object]], seconds: float, rounds: int) -> list[dict]:
    """What every engine measures in ``seconds``, round by round, so that drift of the machine hits all of them."""
    done, start = [], time.perf_counter()
    while not done or (len(done) < rounds and time.perf_counter() - start < PATIENCE):
        done.append({key: measure(seconds) for key, measure in engines.items()})
    return done


def ratio(rounds: list[dict], over: Hashable, under: Hashable) -> float:
    """Median of the ratios within a round: what changes from one round to the next is in none of them."""
    return statistics.median(row[over] / row[under] for row in rounds)


def median_time(call: Callable[[], object], seconds: float) -> float:
    """Seconds of a call, of which there is one at least."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
