"""How many cameras see a point: a truncated power law that adds up to a wanted number of observations.

P(ℓ) ∝ ℓ^−α for 2 ≤ ℓ ≤ ℓ_max is what tracks of real problems follow, with α from 2.25 to 2.47.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparselm.datasets.bundle_adjustment.common import BoolArray, IndexArray
from sparselm.errors import ProblemError

Lengths = npt.NDArray[np.int64]

# An observation count per camera below which a camera is given more, where there are enough.
FEW_OBSERVATIONS = 20

_STEEPEST = 40.0  # P(3)/P(2) is 10⁻⁷: all tracks have length 2
_BISECTIONS = 60


def check_counts(style: str, num_cameras: int, num_points: int, num_observations: int | None) -> None:
    """Raise ProblemError where there cannot be such a problem.

    Raises
    ------
    ProblemError
        Below 4 cameras, 40 points or 2 observations of each point; above an observation by each camera of each point;
        where observations are fewer than the unknowns need.
    """
    if num_cameras < 4 or num_points < 40:
        raise ProblemError(f"{style}: {num_cameras} cameras and {num_points} points, expected at least 4 and 40")
    if num_observations is None:
        return
    least, most = 2 * num_points, num_cameras * num_points
    if not least <= num_observations <= most:
        remedy = (
            "fewer points or more observations" if num_observations < least else "more cameras or fewer observations"
        )
        raise ProblemError(
            f"{style}: {num_observations:,} observations of {num_points:,} points by {num_cameras:,} cameras, expected "
            f"{least:,} (two of each point) to {most:,}; ask for {remedy}"
        )
    check_determined(style, num_cameras, num_points, num_observations)


def check_determined(style: str, num_cameras: int, num_points: int, num_observations: int) -> None:
    """Raise ProblemError where observations give fewer equations than there are unknowns."""
    unknowns = 9 * num_cameras + 3 * num_points - 7  # the world's frame and scale are free
    if 2 * num_observations < unknowns:
        raise ProblemError(
            f"{style}: {num_observations:,} observations of {num_points:,} points by {num_cameras:,} cameras do not "
            f"determine these, expected at least {-(-unknowns // 2):,}; ask for fewer cameras, or for more points or "
            "observations"
        )


def least_per_camera(num_cameras: int, num_points: int, num_observations: int | None) -> int:
    """Observations that each camera shall have at least: 20, or what the counts allow without becoming all alike."""
    least = min(FEW_OBSERVATIONS, num_points // 2)
    return least if num_observations is None else min(least, num_observations // (2 * num_cameras))


def fit_law(mean: float, exponent: float, max_track: int, longest: int) -> tuple[float, int]:
    """The truncated power law of a wanted mean that is nearest to a given one: its α and ℓ_max.

    Tracks may first become longer than ``max_track``, up to ``longest``; then the exponent is solved for. Where no
    α ≥ 0 will do, the law that comes nearest is returned.

    Examples
    --------
    >>> exponent, max_track = fit_law(5.0, exponent=2.25, max_track=30, longest=1000)
    >>> round(exponent, 2), max_track
    (2.25, 87)
    >>> exponent, max_track = fit_law(5.0, exponent=2.25, max_track=30, longest=30)
    >>> round(exponent, 2), max_track
    (1.97, 30)
    """
    shortest = min(max_track, longest)
    support = np.arange(2, longest + 1)
    probability = support ** -float(exponent)
    means = np.cumsum(support * probability) / np.cumsum(probability)
    limit = min(max(int(np.searchsorted(means, mean)) + 2, shortest), longest)
    low, high = 0.0, _STEEPEST
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _mean(middle, limit) > mean:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high), limit


def _mean(exponent: float, max_track: int) -> float:
    support = np.arange(2, max_track + 1)
    probability = support**-exponent
    return float(support @ probability / probability.sum())


def draw_lengths(rng: np.random.Generator, num_points: int, exponent: float, max_track: int) -> Lengths:
    """Independent track lengths of the law."""
    support = np.arange(2, max_track + 1)
    cumulative = np.cumsum(support ** -float(exponent))
    return support[np.searchsorted(cumulative / cumulative[-1], rng.random(num_points))]


def lengths_adding_up(
    rng: np.random.Generator, num_points: int, num_observations: int, exponent: float, max_track: int
) -> Lengths:
    """Track lengths in random order, as often each as the law says, whose sum is the number of observations.

    Where the law's mean differs from the wanted one, random tracks become longer or shorter by one until it fits.
    """
    support = np.arange(2, max_track + 1)
    cumulative = np.cumsum(support ** -float(exponent))
    lengths = support[np.searchsorted(cumulative / cumulative[-1], (np.arange(num_points) + 0.5) / num_points)]
    rng.shuffle(lengths)
    return add_up(rng, lengths, num_observations, np.full(num_points, max_track))


def add_up(rng: np.random.Generator, lengths: Lengths, total: int, capacity: Lengths) -> Lengths:
    """Lengths changed by ones, between 2 and each point's capacity, until their sum is ``total`` or as near as it gets."""
    while missing := total - int(lengths.sum()):
        step = 1 if missing > 0 else -1
        rows = np.flatnonzero(lengths < capacity) if step > 0 else np.flatnonzero(lengths > 2)
        if not rows.size:
            break
        lengths[rng.choice(rows, min(abs(missing), len(rows)), replace=False)] += step
    return lengths


def trim(
    rng: np.random.Generator,
    camera_index: IndexArray,
    point_index: IndexArray,
    anchor: IndexArray,
    apart: BoolArray,
    excess: int,
    least: int,
) -> BoolArray:
    """Which observations stay when ``excess`` random ones go, or as many as can.

    A point keeps its anchor and one observation from ``apart``, another place; a camera keeps ``least`` observations.
    """
    stays = np.ones(len(camera_index), dtype=bool)
    per_camera = np.bincount(camera_index)
    others = np.bincount(point_index[apart], minlength=len(anchor))
    for row in rng.permutation(np.flatnonzero(camera_index != anchor[point_index])):
        if excess <= 0:
            break
        camera, point = camera_index[row], point_index[row]
        if per_camera[camera] > least and (not apart[row] or others[point] > 1):
            stays[row] = False
            per_camera[camera] -= 1
            others[point] -= apart[row]
            excess -= 1
    return stays


def assign_lengths(rng: np.random.Generator, lengths: Lengths, capacity: Lengths) -> Lengths:
    """Give each length to a random point whose capacity it does not exceed, the longest first.

    Lengths for which no such point is left are cut to what the others can take; 2 fits any.
    """
    often = np.bincount(lengths)
    by_capacity = rng.permutation(len(capacity))
    by_capacity = by_capacity[np.argsort(-capacity[by_capacity], kind="stable")]
    ends = np.searchsorted(-capacity[by_capacity], -np.arange(len(often)), side="right")
    given = np.full(len(lengths), 2)
    able, start, owed = by_capacity[:0], 0, 0
    for length in range(len(often) - 1, 2, -1):
        able = np.concatenate([able, by_capacity[start : ends[length]]])
        start = ends[length]
        owed += int(often[length])
        taken = rng.choice(len(able), min(owed, len(able)), replace=False, shuffle=False)
        given[able[taken]] = length
        able = np.delete(able, taken)
        owed -= len(taken)
    return given
