"""NannyML's univariate drift, with its defaults, on runs of the campaign: an alarm where any column alerts, and where any
column alerts in two of three windows (that persistence is ours; NannyML has none)."""
import os
import warnings

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")

import nannyml
from streams import frame, paths, say, two_of_three

for path in paths():
    run, reference, watched = frame(path)
    columns = [name for name in reference.columns if name not in ("day", "at")]
    calculator = nannyml.UnivariateDriftCalculator(column_names=columns, timestamp_column_name="at", chunk_period="D")
    calculator.fit(reference)
    result = calculator.calculate(watched).filter(period="analysis").to_df()
    alerts = result.loc[:, result.columns.get_level_values(2) == "alert"]
    flags = alerts.to_numpy(dtype=bool)
    say(run, "nannyml", flags.any(axis=1))
    say(run, "nannyml-2of3", two_of_three(flags).any(axis=1))
