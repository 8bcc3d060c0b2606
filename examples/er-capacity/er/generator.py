"""A synthetic emergency department: who arrives when, how they look, and what becomes of them.

Owns the hospital's ground truth. Nothing that trains or serves a model may import it except the tests: the trainer
reads the warehouse only.

Every day of every site has its own random stream, seeded with (site seed, day). So any range of days comes out the
same however it is cut, and a live process can make tomorrow without making the past again. What reaches across days
is little: the day-to-day noise (an AR(1) series, remade from day 0, which is cheap) and the patients who are still in
the department at midnight (two earlier days are made to count them).

How the numbers were chosen: the hour, weekday and season shapes follow published emergency-department arrival
profiles in their general form; complaint mix, severity and outcome coefficients were tuned until the marginals were
plausible for a mid-sized department (123 patients a day; triage levels 1 to 5: 1/15/44/33/6 %; 21 % admitted; 2.4 %
deteriorate within 24 hours). They are a demonstration, not medicine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from er.features import COMPLAINTS
from er.world import DAY_H, HOUR_MS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESPIRATORY = COMPLAINTS.index("respiratory")
INJURY = COMPLAINTS.index("injury")
INFECTION = COMPLAINTS.index("infection")

YEAR_DAYS = 365
#: Nobody stays in the department longer; it also bounds how far back occupancy must look.
ED_STAY_MAX_H = 48.0

# One row a complaint, in the order of COMPLAINTS.
COMPLAINT_SHARE = np.array([0.10, 0.12, 0.10, 0.19, 0.07, 0.07, 0.05, 0.12, 0.08, 0.10])
COMPLAINT_SEVERITY = np.array([0.45, 0.15, 0.50, -0.45, 0.55, 0.35, -0.20, -0.70, -0.15, -0.35])
COMPLAINT_AMBULANCE = np.array([0.6, 0.1, 0.5, -0.1, 0.8, 0.1, 0.3, -0.9, -0.2, -0.4])
COMPLAINT_PAIN = np.array([1.8, 1.9, -1.2, 1.6, -0.6, -0.4, -2.0, 1.7, 0.9, 0.0])

# fmt: off
#: Arrivals by hour of day: a trough before dawn, a steep morning, a long plateau.
HOUR_SHAPE = np.array([
    .58, .48, .41, .36, .34, .36, .46, .64, .90, 1.18, 1.38, 1.46,
    1.45, 1.42, 1.40, 1.38, 1.37, 1.38, 1.38, 1.35, 1.28, 1.15, .97, .76,
])
# fmt: on
HOUR_SHAPE /= HOUR_SHAPE.mean()
#: Monday to Sunday: Monday is the busiest day of an emergency department.
WEEKDAY_SHAPE = np.array([1.11, 1.02, 0.99, 0.98, 0.99, 0.95, 0.96])
WEEKDAY_SHAPE /= WEEKDAY_SHAPE.mean()


@dataclass(frozen=True)
class Epidemic:
    """A new respiratory disease at its full strength.

    Its patients are "silent": they look better than they are, so a model that learnt from vital signs trusts them
    too much. Only respiratory patients carry it; everybody else mostly stays at home.
    """

    ramp_days: int = 14
    respiratory_factor: float = 4.0
    other_factor: float = 0.70
    hour_delay: int = 2
    elderly_factor: float = 1.5
    # How they look (added to the usual patient of the same severity).
    look_severity: float = -0.8
    look_heart_rate: float = -14.0
    look_resp_rate: float = -4.5
    look_spo2: float = -0.8
    look_temp_c: float = 0.7
    # What becomes of them (added to the logit of each outcome).
    deterioration: float = 2.0
    deterioration_per_severity: float = -0.75
    deterioration_per_degree: float = 1.3
    deterioration_per_year: float = 0.030
    admission: float = 1.5
    improvement: float = -1.6


@dataclass(frozen=True)
class Parameters:
    """The hospital in ordinary times."""

    patients_per_day: float = 120.0
    # The whole year: a few per cent more patients in January.
    annual_amplitude: float = 0.05
    annual_peak_day: int = 20
    # The respiratory season: a bump around 15 January, some three months wide.
    winter_peak_day: int = 15
    winter_width_days: float = 32.0
    winter_respiratory_factor: float = 1.9
    winter_infection_extra: float = 0.5
    # Good and bad days follow each other: AR(1) on the logarithm of the day's rate.
    day_noise_sd: float = 0.06
    day_noise_memory: float = 0.6
    epidemic: Epidemic = field(default_factory=Epidemic)


@dataclass(frozen=True)
class Site:
    """One emergency department. Sites differ by their seed alone: they share the parameters."""

    name: str
    seed: int


@dataclass(frozen=True)
class Patients:
    """A table of patients ordered by arrival; every field is one column of the same length."""

    patient_id: list[str]
    time_h: Floats
    age: Floats
    sex: Ints
    ambulance: Ints
    complaint: Ints
    comorbidities: Ints
    prior_visits: Ints
    heart_rate: Floats
    sbp: Floats
    resp_rate: Floats
    spo2: Floats
    temp_c: Floats
    pain: Ints
    lactate: Floats  # NaN where it was not measured: it is measured when somebody looks sick
    triage_esi: Ints
    ed_occupancy: Ints
    # Outcomes, known LABEL_DELAY_H after arrival.
    deterioration_24h: Ints
    improved_6h: Ints
    admitted: Ints

    def __len__(self) -> int:
        return len(self.time_h)


def generate(
    site: Site,
    first_day: int,
    end_day: int,
    epidemic_from_day: int | None = None,
    parameters: Parameters = Parameters(),
) -> Patients:
    """All patients who arrive at `site` on the days `first_day <= day < end_day`."""
    if first_day < 0 or end_day < first_day:
        raise ValueError(f"days {first_day}..{end_day} are not a range of days from day 0")
    noise = _day_noise(site, end_day, parameters)
    lookback = int(ED_STAY_MAX_H) // DAY_H
    made = {
        day: _arrivals(site, day, float(noise[day]), _strength(day, epidemic_from_day, parameters), parameters)
        for day in range(max(0, first_day - lookback), end_day)
    }
    days = [
        _with_outcomes(day, [made[d] for d in range(max(0, day - lookback), day + 1)], parameters)
        for day in range(first_day, end_day)
    ]
    ids = [f"{site.name}-{day:04d}-{n:04d}" for day in range(first_day, end_day) for n in range(len(made[day].time_h))]
    columns: dict[str, Any] = {
        name: np.concatenate([d[name] for d in days]) if days else np.empty(0) for name in _COLUMNS
    }
    return Patients(patient_id=ids, **columns)


_COLUMNS = tuple(name for name in Patients.__dataclass_fields__ if name != "patient_id")


@dataclass(frozen=True)
class _Arrivals:
    """One day before anything that depends on earlier days is known."""

    time_h: Floats
    leaves_h: Floats
    severity: Floats
    silent: Floats
    columns: dict[str, NDArray]
    draw_improved: Floats


def _day_noise(site: Site, days: int, parameters: Parameters) -> Floats:
    """AR(1) noise of the days 0 to `days`; a longer series starts with the shorter one."""
    memory = parameters.day_noise_memory
    steps = np.random.default_rng([site.seed, 0]).normal(size=days) * parameters.day_noise_sd * np.sqrt(1 - memory**2)
    noise = np.zeros(days)
    for day in range(1, days):
        noise[day] = memory * noise[day - 1] + steps[day]
    return noise


def _strength(day: int, epidemic_from_day: int | None, parameters: Parameters) -> float:
    """The epidemic's strength on a day: 0 before it, 1 after its ramp."""
    if epidemic_from_day is None:
        return 0.0
    return float(np.clip((day - epidemic_from_day) / parameters.epidemic.ramp_days, 0, 1))


def _winter(day: int, parameters: Parameters) -> float:
    """The respiratory season, 0 to 1."""
    away = abs(day % YEAR_DAYS - parameters.winter_peak_day)
    away = min(away, YEAR_DAYS - away)
    return float(np.exp(-0.5 * (away / parameters.winter_width_days) ** 2))


def _complaint_volume(winter: float, strength: float, p: Parameters) -> Floats:
    """Arrivals by complaint, as shares of an ordinary day: they add up to more than 1 in winter."""
    epidemic = p.epidemic
    volume = COMPLAINT_SHARE * (1 - (1 - epidemic.other_factor) * strength)
    volume[INFECTION] *= 1 + p.winter_infection_extra * winter
    season = 1 + (p.winter_respiratory_factor - 1) * winter
    volume[RESPIRATORY] = COMPLAINT_SHARE[RESPIRATORY] * season * (1 + (epidemic.respiratory_factor - 1) * strength)
    return volume


def _arrivals(site: Site, day: int, noise: float, strength: float, p: Parameters) -> _Arrivals:
    """Who arrives on one day, how they look, and the outcomes that do not depend on crowding."""
    # Stream 0 is the day noise, so day d uses stream d + 1.
    rng = np.random.default_rng([site.seed, day + 1])
    epidemic = p.epidemic
    winter = _winter(day, p)
    volume = _complaint_volume(winter, strength, p)

    hour_shape = (1 - strength) * HOUR_SHAPE + strength * np.roll(HOUR_SHAPE, epidemic.hour_delay)
    annual = 1 + p.annual_amplitude * np.cos(2 * np.pi * (day % YEAR_DAYS - p.annual_peak_day) / YEAR_DAYS)
    rate = p.patients_per_day / DAY_H * hour_shape * WEEKDAY_SHAPE[day % 7] * annual * volume.sum() * np.exp(noise)
    hour = np.repeat(np.arange(DAY_H), rng.poisson(rate))
    n = len(hour)
    # Whole milliseconds, cut rather than rounded: the last arrival of a day must not slip into the next.
    time_h = np.floor((day * DAY_H + np.sort(hour + rng.random(n))) * HOUR_MS) / HOUR_MS

    # Who they are.
    complaint = np.searchsorted(np.cumsum(volume / volume.sum()), rng.random(n)).clip(0, len(COMPLAINTS) - 1)
    respiratory = (complaint == RESPIRATORY).astype(float)
    silent = strength * respiratory
    age = _ages(rng, complaint, silent, winter, strength, epidemic)
    sex = (rng.random(n) < 0.51).astype(np.int64)
    comorbidities = rng.poisson(np.clip(0.15 + 0.028 * (age - 18).clip(0), 0.05, None))
    prior_visits = rng.poisson(0.35 + 0.25 * comorbidities)

    # How sick they are, and how sick they look: triage, transport and vital signs only see the look.
    severity = (
        -0.55 + 0.012 * (age - 45) + 0.16 * comorbidities + COMPLAINT_SEVERITY[complaint] + 0.15 * winter * respiratory
    ) + rng.normal(0, 0.9, n)
    look = severity + epidemic.look_severity * silent
    ambulance = rng.random(n) < _sigmoid(-1.35 + 0.75 * look + COMPLAINT_AMBULANCE[complaint] + 0.012 * (age - 45))
    infection = (complaint == INFECTION).astype(float)
    heart_rate = 84 + 9 * look + np.where(age < 12, 28, 0) + 6 * infection + epidemic.look_heart_rate * silent
    heart_rate = heart_rate + rng.normal(0, 12, n)
    sbp = 132 - 7 * look + 0.18 * (age - 45) + rng.normal(0, 17, n)
    resp_rate = 17.5 + 2.2 * look + 2.5 * respiratory + np.where(age < 6, 7, 0) + epidemic.look_resp_rate * silent
    resp_rate = resp_rate + rng.normal(0, 2.4, n)
    spo2 = 97.3 - np.maximum(look, -1) - 1.3 * respiratory + epidemic.look_spo2 * silent + rng.normal(0, 1.3, n)
    spo2 = np.clip(spo2, 70, 100)
    temp_c = 36.8 + 0.12 * look + 0.9 * infection + 0.35 * respiratory + epidemic.look_temp_c * silent
    temp_c = temp_c + rng.normal(0, 0.45, n)
    pain = np.clip(np.round(3.6 + 0.5 * look + COMPLAINT_PAIN[complaint] + rng.normal(0, 2.2, n)), 0, 10)
    measured = rng.random(n) < _sigmoid(-1.2 + 0.9 * look)
    lactate = np.where(measured, np.exp(0.25 + 0.28 * look + rng.normal(0, 0.35, n)), np.nan)
    triage = np.clip(np.round(3.0 - 0.62 * look - 0.3 * (spo2 < 92) + rng.normal(0, 0.40, n)), 1, 5)

    # What becomes of them.
    deterioration_logit = (
        -4.05
        + (1.05 + epidemic.deterioration_per_severity * silent) * severity
        + 0.10 * np.maximum(0, 94 - spo2)
        + 0.018 * (age - 60).clip(0)
        + 0.25 * (np.nan_to_num(lactate, nan=1.4) - 1.4)
        + silent
        * (
            epidemic.deterioration
            + epidemic.deterioration_per_degree * (temp_c - 37.8)
            + epidemic.deterioration_per_year * (age - 50)
        )
    )
    deteriorates = rng.random(n) < _sigmoid(deterioration_logit)
    admission = _sigmoid(
        -1.75 + 1.15 * severity + 0.022 * (age - 45) + 0.18 * comorbidities + 0.35 * respiratory
        + epidemic.admission * silent
    )  # fmt: skip
    admission = np.where(deteriorates, np.maximum(admission, 0.92), admission)
    admitted = rng.random(n) < admission
    stay_h = np.exp(np.log(3.4) + 0.16 * severity + 0.25 * admitted + rng.normal(0, 0.45, n))

    columns: dict[str, NDArray] = {
        "time_h": time_h,
        "age": age.round(1),
        "sex": sex,
        "ambulance": ambulance.astype(np.int64),
        "complaint": complaint.astype(np.int64),
        "comorbidities": comorbidities,
        "prior_visits": prior_visits,
        "heart_rate": heart_rate.round(2),
        "sbp": sbp.round(2),
        "resp_rate": resp_rate.round(2),
        "spo2": spo2.round(2),
        "temp_c": temp_c.round(2),
        "pain": pain.astype(np.int64),
        "lactate": lactate.round(2),
        "triage_esi": triage.astype(np.int64),
        "deterioration_24h": deteriorates.astype(np.int64),
        "admitted": admitted.astype(np.int64),
    }
    leaves_h = time_h + np.minimum(stay_h, ED_STAY_MAX_H)
    return _Arrivals(time_h, leaves_h, severity, silent, columns, rng.random(n))


def _ages(
    rng: np.random.Generator, complaint: Ints, silent: Floats, winter: float, strength: float, epidemic: Epidemic
) -> Floats:
    """A mixture of children, adults and the elderly."""
    n = len(complaint)
    child = np.where(complaint == INJURY, 0.28, 0.20) * (1 - 0.5 * strength)
    elderly = 0.27 * (1 + (epidemic.elderly_factor - 1) * silent) * (1 + 0.15 * winter)
    which = rng.random(n)
    children = rng.gamma(2.2, 3.0, n)
    elders = np.clip(rng.normal(77, 8, n), 62, 100)
    adults = np.clip(rng.normal(41, 13, n), 16, 75)
    return np.clip(np.where(which < child, children, np.where(which < child + elderly, elders, adults)), 0, 100)


def _with_outcomes(day: int, window: list[_Arrivals], p: Parameters) -> dict[str, NDArray]:
    """The columns of `day`, the last of `window`, with crowding and the outcome that crowding changes."""
    today = window[-1]
    arrived = np.concatenate([a.time_h for a in window])
    left = np.sort(np.concatenate([a.leaves_h for a in window]))
    before = np.searchsorted(arrived, today.time_h)
    occupancy = before - np.searchsorted(left, today.time_h)

    c = today.columns
    stays_well = _sigmoid(
        1.25 - today.severity - 0.012 * (c["age"] - 45) - 0.012 * (occupancy - 20) - 0.10 * c["comorbidities"]
        + p.epidemic.improvement * today.silent
    )  # fmt: skip
    improved = today.draw_improved < np.where(c["admitted"] == 1, 0.30 * stays_well, stays_well)
    return c | {"ed_occupancy": occupancy.astype(np.int64), "improved_6h": improved.astype(np.int64)}


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))
