"""Writes runs of the emergency department (examples/er-capacity) for the campaign: two years of reference, then a quiet
third year, or an epidemic from day 800 on. With the epidemic goes the harm it does: `error_doubled` is the day of it on
which a model of tomorrow's admissions, trained on the reference, has been wrong by twice its usual error for a week.

    er_streams.py FOLDER SEEDS
    er_streams.py FOLDER fleet SITES

The second form writes what whole fleets live through, by one model for all sites: from day 365 on three quiet years of
each site, and an epidemic for each hospital of three sites, in another month each.
"""
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "er-capacity"))
from er.features import LABEL, feature_matrix
from er.generator import Site, generate

REFERENCE_DAYS, YEAR_DAYS, EPIDEMIC_DAY, EPIDEMIC_DAYS = 730, 365, 800, 40
#: Fleets: sites of a hospital, days between the epidemics of one and the next, quiet days watched before it.
HOSPITAL, EPIDEMICS_APART, QUIET_DAYS = 3, 61, 60
NUMERIC = ("age", "sex", "ambulance", "comorbidities", "prior_visits", "heart_rate", "sbp", "resp_rate", "spo2", "temp_c",
           "pain", "lactate", "triage_esi", "ed_occupancy")


def table(patients, score):
    """Fourteen numbers, the complaint, the score."""
    columns = [np.asarray(getattr(patients, name), dtype=float) for name in NUMERIC]
    columns += [np.asarray(patients.complaint, dtype=float), score(patients)]
    return np.stack(columns).astype("<f4")


def columns_of(patients):
    return {name: getattr(patients, name) for name in patients.__dataclass_fields__}


def beds_table(parts, days):
    """A day's features, and the admissions of the day after it; from the seventh day on."""
    day = np.concatenate([p.time_h // 24 for p in parts]).astype(int)
    table = {
        "arrivals": np.bincount(day, minlength=days),
        "admitted": np.bincount(day, np.concatenate([p.admitted for p in parts]), minlength=days),
        "age": np.bincount(day, np.concatenate([p.age for p in parts]), minlength=days),
    }
    rows, wanted = [], []
    for today in range(6, days - 1):
        week = slice(today - 6, today + 1)
        counts = [f(table[name]) for name in ("arrivals", "admitted") for f in (lambda t: t[today], lambda t: t[week].mean(), lambda t: t[today - 6])]
        turn = 2 * np.pi * today / 365
        weekday = np.eye(7)[(today + 1) % 7]
        rows.append([*counts, table["age"][today] / table["arrivals"][today], np.sin(turn), np.cos(turn), *weekday])
        wanted.append(table["admitted"][today + 1])
    return np.array(rows), np.array(wanted)


def error_doubled(before, sick):
    """Days of epidemic after which the week's mean error was twice the one of the quiet days before; None: never."""
    rows, wanted = beds_table([before, sick], EPIDEMIC_DAY + EPIDEMIC_DAYS)
    predicted_day = np.arange(7, EPIDEMIC_DAY + EPIDEMIC_DAYS)
    known = predicted_day < REFERENCE_DAYS
    scale = StandardScaler().fit(rows[known])
    model = Ridge(alpha=10).fit(scale.transform(rows[known]), wanted[known])
    error = np.abs(model.predict(scale.transform(rows)) - wanted)
    usual = error[(predicted_day >= REFERENCE_DAYS) & (predicted_day < EPIDEMIC_DAY)].mean()
    epidemic = error[predicted_day >= EPIDEMIC_DAY]
    weeks = [epidemic[end - 7 : end].mean() for end in range(7, len(epidemic) + 1)]
    return next((end + 7 for end, week in enumerate(weeks) if week >= 2 * usual), None)


def write(folder, name, parts, days, reference=REFERENCE_DAYS, doubled=None):
    rows = np.bincount(np.concatenate([(p.time_h // 24).astype(int) for p, _ in parts]), minlength=days[1])[days[0]:]
    np.concatenate([part for _, part in parts], axis=1).tofile(folder / f"{name}.f32")
    categorical = [False] * len(NUMERIC) + [True, False]
    names = [*NUMERIC, "complaint", "score"]
    run = {"name": name, "names": names, "categorical": categorical, "reference": reference, "rows": rows.tolist(),
           "error_doubled": doubled}
    (folder / f"{name}.json").write_text(json.dumps(run))


def scorer(patients):
    """A model of who deteriorates, trained on these patients."""
    inputs = feature_matrix(columns_of(patients))
    scale = StandardScaler().fit(inputs)
    model = LogisticRegression(max_iter=200).fit(scale.transform(inputs), getattr(patients, LABEL))
    return lambda others: model.predict_proba(scale.transform(feature_matrix(columns_of(others))))[:, 1]


def write_fleets(folder, sites):
    sites = [Site(f"fleet-{seed}", 30_000 + seed) for seed in range(sites)]
    score = scorer(generate(sites[0], 0, REFERENCE_DAYS))
    for at, site in enumerate(sites):
        days = (YEAR_DAYS, 4 * YEAR_DAYS)
        quiet = generate(site, *days)
        write(folder, f"quiet-{at:02}", [(quiet, table(quiet, score))], days, YEAR_DAYS)
        epidemic = EPIDEMIC_DAY + EPIDEMICS_APART * (at // HOSPITAL)
        days = (epidemic - QUIET_DAYS - YEAR_DAYS, epidemic + EPIDEMIC_DAYS)
        sick = generate(site, *days, epidemic)
        write(folder, f"epidemic-{at:02}", [(sick, table(sick, score))], days, YEAR_DAYS)


def write_devices(folder, seeds):
    for seed in range(1, seeds + 1):
        site = Site(f"campaign-{seed}", 20_000 + seed)
        before = generate(site, 0, REFERENCE_DAYS)
        score = scorer(before)
        reference = (before, table(before, score))
        quiet = generate(site, REFERENCE_DAYS, REFERENCE_DAYS + YEAR_DAYS)
        end = REFERENCE_DAYS + YEAR_DAYS
        write(folder, f"er-quiet-{seed:02}", [reference, (quiet, table(quiet, score))], (0, end))
        end = EPIDEMIC_DAY + EPIDEMIC_DAYS
        sick = generate(site, REFERENCE_DAYS, end, EPIDEMIC_DAY)
        parts = [reference, (sick, table(sick, score))]
        write(folder, f"er-epidemic-{seed:02}", parts, (0, end), doubled=error_doubled(before, sick))


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    match sys.argv[2:]:
        case ["fleet", sites]:
            write_fleets(folder, int(sites))
        case [seeds]:
            write_devices(folder, int(seeds))


main()
