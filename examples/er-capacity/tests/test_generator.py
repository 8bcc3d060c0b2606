from __future__ import annotations

import numpy as np
import pytest

from er.features import COMPLAINTS, FEATURES, LACTATE_FILL, feature_matrix
from er.generator import RESPIRATORY, Patients, Site, generate
from er.world import DAY_H

SITE = Site("er-1", 11)
EPIDEMIC_DAY = 800


@pytest.fixture(scope="module")
def two_years() -> Patients:
    return generate(SITE, 0, 730)


@pytest.fixture(scope="module")
def epidemic() -> Patients:
    return generate(SITE, EPIDEMIC_DAY + 14, EPIDEMIC_DAY + 60, EPIDEMIC_DAY)


def test_an_ordinary_year_has_the_volume_and_outcomes_it_was_made_for(two_years: Patients) -> None:
    p = two_years
    assert len(p) / 730 == pytest.approx(123, rel=0.02)
    assert np.mean(p.admitted) == pytest.approx(0.21, abs=0.01)
    assert np.mean(p.deterioration_24h) == pytest.approx(0.024, abs=0.002)
    assert np.mean(p.improved_6h) == pytest.approx(0.69, abs=0.01)
    assert np.mean(np.isnan(p.lactate)) == pytest.approx(0.80, abs=0.02)
    assert np.mean(p.ed_occupancy) == pytest.approx(22, abs=2)


def test_triage_levels_have_their_shares_and_admission_rates(two_years: Patients) -> None:
    share = (0.01, 0.15, 0.44, 0.33, 0.06)
    admitted = (0.784, 0.500, 0.221, 0.072, 0.017)
    for level in range(1, 6):
        of_level = two_years.triage_esi == level
        assert np.mean(of_level) == pytest.approx(share[level - 1], abs=0.01)
        assert np.mean(two_years.admitted[of_level]) == pytest.approx(admitted[level - 1], abs=0.03)


def test_winter_brings_respiratory_patients(two_years: Patients) -> None:
    day_of_year = two_years.time_h // DAY_H % 365
    respiratory = two_years.complaint == RESPIRATORY
    winter = np.mean(respiratory[(day_of_year < 31)])
    summer = np.mean(respiratory[(day_of_year >= 160) & (day_of_year < 240)])
    assert winter / summer == pytest.approx(1.7, abs=0.2)


def test_the_epidemic_fills_the_department_with_silent_respiratory_patients(
    two_years: Patients, epidemic: Patients
) -> None:
    assert np.mean(epidemic.complaint == RESPIRATORY) == pytest.approx(0.39, abs=0.03)
    assert np.mean(epidemic.deterioration_24h) == pytest.approx(0.095, abs=0.01)
    assert np.mean(epidemic.admitted) == pytest.approx(0.375, abs=0.02)
    assert np.mean(epidemic.improved_6h) == pytest.approx(0.51, abs=0.02)
    # They look better than the respiratory patients of ordinary times, and fare worse.
    before, now = two_years.complaint == RESPIRATORY, epidemic.complaint == RESPIRATORY
    assert np.mean(epidemic.heart_rate[now]) < np.mean(two_years.heart_rate[before]) - 10
    assert np.mean(epidemic.resp_rate[now]) < np.mean(two_years.resp_rate[before]) - 3
    assert np.mean(epidemic.deterioration_24h[now]) > 3 * np.mean(two_years.deterioration_24h[before])


def test_nothing_differs_before_the_epidemic_begins() -> None:
    check_equal(generate(SITE, 790, EPIDEMIC_DAY + 1, EPIDEMIC_DAY), generate(SITE, 790, EPIDEMIC_DAY + 1))


def test_the_same_days_come_out_the_same_however_they_are_cut() -> None:
    whole = generate(SITE, 798, 806, EPIDEMIC_DAY)
    parts = [generate(SITE, day, day + 1, EPIDEMIC_DAY) for day in range(798, 806)]
    for name in Patients.__dataclass_fields__:
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(np.asarray(getattr(whole, name)), joined, err_msg=name)


def test_sites_share_the_statistics_but_no_patient() -> None:
    one, other = generate(SITE, 0, 100), generate(Site("er-2", 12), 0, 100)
    assert len(one) == pytest.approx(len(other), rel=0.05)
    assert not set(one.time_h) & set(other.time_h)
    assert not set(one.patient_id) & set(other.patient_id)


def test_patient_ids_are_unique_and_arrivals_ordered(two_years: Patients) -> None:
    assert len(set(two_years.patient_id)) == len(two_years)
    assert np.all(np.diff(two_years.time_h) >= 0)


@pytest.mark.parametrize("days", [(-1, 3), (5, 4)])
def test_a_range_that_is_none_is_refused(days: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a range of days"):
        generate(SITE, *days)


def test_an_empty_range_has_nobody() -> None:
    assert len(generate(SITE, 5, 5)) == 0


def test_features_are_in_the_order_that_their_names_say(two_years: Patients) -> None:
    x = feature_matrix(vars(two_years))
    assert x.shape == (len(two_years), 27) and x.dtype == np.float32
    assert np.all(np.isfinite(x))

    def column(name: str) -> np.ndarray:
        return x[:, FEATURES.index(name)]

    np.testing.assert_array_equal(column("spo2"), two_years.spo2.astype(np.float32))
    np.testing.assert_array_equal(column("ed_occupancy"), two_years.ed_occupancy)
    not_measured = np.isnan(two_years.lactate)
    np.testing.assert_array_equal(column("lactate_missing"), not_measured)
    assert np.all(column("lactate_filled")[not_measured] == np.float32(LACTATE_FILL))
    one_hot = x[:, FEATURES.index(f"complaint_{COMPLAINTS[0]}") :]
    np.testing.assert_array_equal(one_hot.argmax(1), two_years.complaint)
    assert np.all(one_hot.sum(1) == 1)


def check_equal(one: Patients, other: Patients) -> None:
    for name in Patients.__dataclass_fields__:
        np.testing.assert_array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name)), err_msg=name)
