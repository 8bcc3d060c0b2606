"""The deterioration model: a weighted logistic regression, its scores, and its export to ONNX.

Owns the numbers that `metrics.json` claims and the graph that a box runs. Reads and writes no data sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

# What the oldest runtime that we support reads.
OPSET = 17
IR_VERSION = 8

RECALL = 0.80

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Logistic:
    """score = sigmoid(((x - mean) / scale) · weights + bias)"""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: float

    def predict(self, x: Floats) -> NDArray[np.float64]:
        """The score of every row, in double precision."""
        z = ((np.asarray(x, dtype=float) - self.mean) / self.scale) @ self.weights + self.bias
        return 1 / (1 + np.exp(-z))

    def reordered(self, order: list[int]) -> Logistic:
        """The same model for an input whose column i holds what this one calls column `order[i]`."""
        return Logistic(self.mean[order], self.scale[order], self.weights[order], self.bias)


def fit(x: Floats, y: NDArray[np.integer], weight: Floats) -> Logistic:
    """Fits the regression on weighted rows. Both classes must be present."""
    scaler = StandardScaler().fit(x, sample_weight=weight)
    regression = LogisticRegression(C=1.0, max_iter=500).fit(scaler.transform(x), y, sample_weight=weight)
    return Logistic(scaler.mean_, scaler.scale_, regression.coef_[0], float(regression.intercept_[0]))


def scores(y: NDArray[np.integer], p: Floats) -> dict[str, float]:
    """How good predictions are on labelled rows. `auc` is left out where only one class is present."""
    result = {
        "log_loss": log_loss(y, p, labels=[0, 1]),
        "brier": brier_score_loss(y, p),
        "ece": expected_calibration_error(y, p),
        "positives": float(np.mean(y)),
        "mean_score": float(np.mean(p)),
    }
    if 0 < np.mean(y) < 1:
        result["auc"] = roc_auc_score(y, p)
    return {name: round(float(value), 6) for name, value in sorted(result.items())}


def expected_calibration_error(y: NDArray[np.integer], p: Floats, bins: int = 10) -> float:
    """Mean distance of predicted and observed rate over equal-width bins, weighted by their rows."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    rows = np.bincount(which, minlength=bins)
    gap = np.abs(np.bincount(which, p, bins) - np.bincount(which, y, bins))
    return float(gap[rows > 0].sum() / len(p))


def threshold_for_recall(y: NDArray[np.integer], p: Floats, recall: float = RECALL) -> float:
    """The score above which `recall` of the positives lie."""
    return float(np.quantile(p[y == 1], 1 - recall))


def to_onnx(model: Logistic, path: Path) -> None:
    """Writes the model with operators of the standard domain only, so that OpenVINO runs all of it.

    Scaling stays in the graph as its own steps instead of being folded into the weights: blood pressures and
    temperatures lose digits where a device multiplies matrices in a 16-bit format, standardised values do not.
    """
    columns = len(model.weights)

    def constant(name: str, values: Floats) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["x", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["standardised"]),
            helper.make_node("MatMul", ["standardised", "weights"], ["weighted"]),
            helper.make_node("Add", ["weighted", "bias"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["score"]),
        ],
        "deterioration",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])],
        [
            constant("mean", model.mean),
            constant("scale", model.scale),
            constant("weights", model.weights.reshape(columns, 1)),
            constant("bias", np.array([model.bias])),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="er-capacity")
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def from_onnx(path: Path) -> Logistic:
    """Reads back what `to_onnx` wrote."""
    initializers = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    missing = {"mean", "scale", "weights", "bias"} - initializers.keys()
    if missing:
        raise ValueError(f"{path}: not a model of this example ({', '.join(sorted(missing))} missing)")
    return Logistic(
        initializers["mean"],
        initializers["scale"],
        initializers["weights"].reshape(-1),
        float(initializers["bias"][0]),
    )
