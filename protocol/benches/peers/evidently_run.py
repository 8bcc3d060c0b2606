"""Evidently's DataDriftPreset, with its defaults, on runs of the campaign: an alarm where the data set drifts (half of the
columns), and where any column does. At most WINDOWS windows a run: a report takes about a second."""
import os
import warnings

warnings.filterwarnings("ignore")

from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from streams import frame, paths, say

WINDOWS = int(os.environ.get("WINDOWS", "30"))

for path in paths():
    run, reference, watched = frame(path)
    columns = [name for name in reference.columns if name not in ("day", "at")]
    categorical = [name for name, is_categorical in zip(columns, run["categorical"], strict=True) if is_categorical]
    numeric = [name for name in columns if name not in categorical]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    before = Dataset.from_pandas(reference[columns], data_definition=definition)
    half, any_column = [], []
    for _, window in list(watched.groupby("day"))[:WINDOWS]:
        now = Dataset.from_pandas(window[columns].reset_index(drop=True), data_definition=definition)
        metrics = Report([DataDriftPreset()]).run(now, before).dict()["metrics"]
        drifted = next(m["value"] for m in metrics if m["metric_name"].startswith("DriftedColumnsCount"))
        half.append(drifted["share"] >= 0.5)
        any_column.append(drifted["count"] > 0)
    say(run, "evidently", half)
    say(run, "evidently-any-column", any_column)
