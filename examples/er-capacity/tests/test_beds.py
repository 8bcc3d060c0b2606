"""The beds that tomorrow's patients need: a forecast from today's figures, before, in and after the change.

Its error at least doubles when the epidemic comes, and training on old days and six times the new ones brings it back.
The forecast is a ridge regression of the day's own figures; the ground truth is the generator's.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from er.generator import INFECTION, RESPIRATORY, YEAR_DAYS, Site, generate
from er.world import DAY_H

Floats = NDArray[np.float64]

TRAINED_UNTIL, EPIDEMIC_DAY, END_DAY = 730, 800, 1000
#: The days that the retraining has seen of the new world, and those that nobody has seen.
NEW = slice(814, 870)
LATER = slice(870, END_DAY - 1)
NEW_WEIGHT = 6.0


def daily(seed: int) -> tuple[Floats, Floats]:
    """Each day's figures, and how many of the next day's patients are admitted."""
    patients = generate(Site("er", seed), 0, END_DAY, epidemic_from_day=EPIDEMIC_DAY)
    day = (patients.time_h // DAY_H).astype(int)
    count = np.bincount(day, minlength=END_DAY)

    def sums(values: NDArray[np.generic]) -> Floats:
        return np.bincount(day, weights=values.astype(float), minlength=END_DAY)

    def share(values: NDArray[np.bool_]) -> Floats:
        return sums(values) / np.maximum(count, 1)

    def mean7(values: Floats) -> Floats:
        return np.array([values[max(0, d - 6) : d + 1].mean() for d in range(END_DAY)])

    def week_ago(values: Floats) -> Floats:
        """Of tomorrow's weekday, the last one that is known."""
        return np.array([values[max(0, d - 6)] for d in range(END_DAY)])

    admitted, days = sums(patients.admitted), np.arange(END_DAY)
    year = 2 * np.pi * days / YEAR_DAYS
    figures = np.column_stack(
        [np.eye(7)[(days + 1) % 7], np.sin(year), np.cos(year)]
        + [f(values) for values in (count.astype(float), admitted) for f in (lambda v: v, mean7, week_ago)]
        + [share(patients.complaint == RESPIRATORY), share(patients.complaint == INFECTION)]
        + [share(patients.ambulance == 1), share(patients.triage_esi <= 2), sums(patients.age) / np.maximum(count, 1)]
    )
    return figures[:-1], admitted[1:]


def fit(x: Floats, y: Floats, weight: Floats | None = None):  # type: ignore[no-untyped-def]
    model = make_pipeline(StandardScaler(), Ridge(10.0))
    return model.fit(x, y, ridge__sample_weight=weight)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_stale_forecast_of_beds_fails_and_the_retrained_one_does_not(seed: int) -> None:
    x, y = daily(seed)
    old, ordinary = slice(0, TRAINED_UNTIL), slice(TRAINED_UNTIL, EPIDEMIC_DAY)
    stale = fit(x[old], y[old])
    both = np.r_[old, NEW]
    retrained = fit(x[both], y[both], np.r_[np.ones(TRAINED_UNTIL), np.full(NEW.stop - NEW.start, NEW_WEIGHT)])

    def error(model, days: slice) -> float:  # type: ignore[no-untyped-def]
        return float(np.abs(model.predict(x[days]) - y[days]).mean())

    before, after, later = error(stale, ordinary), error(stale, LATER), error(retrained, LATER)
    print(f"\nseed {seed}: mean absolute error of beds: ordinary {before:.1f}, stale {after:.1f}, retrained {later:.1f}")
    assert before < 6.0
    assert after > 2.0 * before
    assert later < 0.75 * after and later < 2.0 * before
