#!/usr/bin/env python3
"""Makes the variants of a model for `muster bundle build`: full and half precision, and INT8 by NNCF.

    convert.py --from SOURCE --out DIR --variants fp32,fp16,int8 [--calibration ROWS]

SOURCE  model.onnx, model.xml (OpenVINO IR, its .bin beside it), or the folder of a TensorFlow SavedModel
DIR     an empty folder: PRECISION/model.onnx for each variant, golden.json, converted.json
ROWS    what the model is usually asked: .npz with an array for each input, .csv of numbers with a header,
        or .jsonl with a request of the Open Inference Protocol on each line

An ONNX model stays ONNX, so that every box runs it. IR and SavedModels become IR behind a small ONNX file that points to
it, which OpenVINO runs and nothing else. Says `progress 0.40 what` on standard output; the last line on standard error is
the reason where it fails.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import warnings

# OpenVINO and NNCF tell Intel of every conversion unless their reporter cannot be imported, and ONNX Runtime tells Microsoft
# of every model unless this is there when it is loaded.
sys.modules["openvino_telemetry"] = None
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

GOLDEN_ROWS = 16
# Beyond it one row is enough: an image says more than sixteen patients.
GOLDEN_ELEMENTS = 200_000
CALIBRATION_ROWS = 300
# Smaller weights are not worth a conversion, and some are no weights but sizes and scales.
HALVED_ELEMENTS = 64
TYPES = {
    "f32": "FP32", "f64": "FP64", "f16": "FP16", "i8": "INT8", "i16": "INT16", "i32": "INT32", "i64": "INT64",
    "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64", "boolean": "BOOL",
}


class Refused(Exception):
    """Something that the person who called can put right."""


def progress(fraction, what):
    print(f"progress {fraction:.2f} {what}", flush=True)


# --- what the model asks for ---------------------------------------------------------------------------------------------


def plain(name):
    """OpenVINO knows TensorFlow's tensors by several names; 'x' says as much as 'x:0'."""
    return min(name, key=lambda n: (":" in n, len(n), n))


def described(port):
    if not port.get_names():
        raise Refused("an input or output of the model has no name; give each a name and export it again")
    kind = TYPES.get(port.get_element_type().get_type_name())
    if kind is None:
        raise Refused(f"'{plain(port.get_names())}' is of the type {port.get_element_type()}, which is not served")
    if port.get_partial_shape().rank.is_dynamic:
        raise Refused(f"'{plain(port.get_names())}' has no fixed number of dimensions; export the model with one")
    shape = [d.get_length() if d.is_static else -1 for d in port.get_partial_shape()]
    return {"name": plain(port.get_names()), "datatype": kind, "shape": shape}


def described_onnx(value):
    import onnx

    tensor = value.type.tensor_type
    if not tensor.elem_type:
        raise Refused(f"'{value.name}' is no tensor; export the model without maps and sequences (zipmap=False)")
    kinds = {
        onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.DOUBLE: "FP64", onnx.TensorProto.FLOAT16: "FP16",
        onnx.TensorProto.INT8: "INT8", onnx.TensorProto.INT16: "INT16", onnx.TensorProto.INT32: "INT32",
        onnx.TensorProto.INT64: "INT64", onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.UINT16: "UINT16",
        onnx.TensorProto.UINT32: "UINT32", onnx.TensorProto.UINT64: "UINT64", onnx.TensorProto.BOOL: "BOOL",
        onnx.TensorProto.STRING: "BYTES",
    }
    if tensor.elem_type not in kinds:
        raise Refused(f"'{value.name}' is of a type that is not served")
    shape = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in tensor.shape.dim]
    return {"name": value.name, "datatype": kinds[tensor.elem_type], "shape": shape}


# --- rows ----------------------------------------------------------------------------------------------------------------


def numpy_type(kind):
    import numpy as np

    names = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool"}
    return np.dtype(names.get(kind, kind.lower()))


def read_rows(path, inputs):
    """An array for each input; the first dimension counts rows."""
    import numpy as np

    if path.suffix == ".npz":
        found = dict(np.load(path, allow_pickle=False))
    elif path.suffix == ".csv":
        if len(inputs) != 1:
            raise Refused(f"{path.name}: a table fits a model with one input; use .npz for one with {len(inputs)}")
        found = {inputs[0]["name"]: np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)}
    elif path.suffix == ".jsonl":
        parts = {}
        for line in path.read_text().splitlines():
            for tensor in json.loads(line)["inputs"]:
                parts.setdefault(tensor["name"], []).append(np.reshape(tensor["data"], tensor["shape"]))
        found = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    else:
        raise Refused(f"{path.name}: rows are read from .npz, .csv or .jsonl")
    rows = {}
    for tensor in inputs:
        name, width = tensor["name"], tensor["shape"][1:]
        if name not in found:
            raise Refused(f"{path.name}: has no rows for the input '{name}'; it has {', '.join(found) or 'none'}")
        array = np.asarray(found[name]).astype(numpy_type(tensor["datatype"]))
        if array.ndim != len(tensor["shape"]) or any(w not in (-1, n) for w, n in zip(width, array.shape[1:])):
            raise Refused(f"{path.name}: the rows of '{name}' have the shape {list(array.shape)}; the model takes {tensor['shape']}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Refused(f"{path.name}: the rows of '{name}' have a value that is not a finite number")
        rows[name] = array
    counts = {len(array) for array in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise Refused(f"{path.name}: each input needs the same number of rows, at least one")
    return rows


def made_up(inputs):
    """Rows where nobody gave any: enough to compare a model with itself, not to learn ranges from."""
    import numpy as np

    rng = np.random.default_rng(7)
    rows = {}
    for tensor in inputs:
        if tensor["datatype"] == "BYTES" or -1 in tensor["shape"][1:]:
            raise Refused(f"the input '{tensor['name']}' needs rows of your own; give them with --calibration")
        shape = [max(GOLDEN_ROWS, tensor["shape"][0]), *tensor["shape"][1:]]
        kind = numpy_type(tensor["datatype"])
        array = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        rows[tensor["name"]] = array.astype(kind)
    return rows


def batches(rows, inputs, size):
    count = len(next(iter(rows.values()))) // size
    for i in range(count):
        yield {t["name"]: rows[t["name"]][i * size : (i + 1) * size] for t in inputs}


def batch_size(inputs):
    return max([t["shape"][0] for t in inputs if t["shape"] and t["shape"][0] > 0], default=1)


def quantised(model, rows, inputs):
    """Full INT8 quantisation; of an ONNX or an OpenVINO model."""
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    options = {}
    if all(len(t["shape"]) <= 2 for t in inputs):
        # By default a range is the mean of the ranges of single samples. A row of twelve numbers reaches nowhere near the
        # largest one that will be asked, so unlike an image's pixels it would be cut off.
        ranges = RangeEstimatorParametersSet.MINMAX
        options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=ranges)
    samples = list(batches(rows, inputs, batch_size(inputs)))
    return nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), **options)


def golden(rows, inputs):
    elements = sum(array[0].size for array in rows.values())
    fixed = [t["shape"][0] for t in inputs if t["shape"][0] > 0]
    count = fixed[0] if fixed else max(1, min(GOLDEN_ROWS, GOLDEN_ELEMENTS // max(1, elements)))
    chosen = next(batches(rows, inputs, count), None)
    if chosen is None:
        count = len(next(iter(rows.values())))
        if fixed:
            raise Refused(f"the model is asked {fixed[0]} rows at once, and only {count} were given")
        chosen = next(batches(rows, inputs, count))
    tensors = [
        {
            "name": t["name"], "datatype": t["datatype"], "shape": list(chosen[t["name"]].shape),
            "data": [as_json(value) for value in chosen[t["name"]].ravel()],
        }
        for t in inputs
    ]
    return {"id": "golden", "inputs": tensors}


def as_json(value):
    """The shortest text that reads back as the same number."""
    return json.loads(str(value)) if value.dtype.kind == "f" else value.item()


# --- ONNX ----------------------------------------------------------------------------------------------------------------


class Onnx:
    format = "onnx"

    def __init__(self, path):
        import onnx

        try:
            self.model = onnx.load(path)
            onnx.checker.check_model(self.model)
        except Exception as error:  # The library has no common base of its own.
            raise Refused(f"{path.name} is no ONNX model: {first_line(error)}") from error
        weights = {w.name for w in self.model.graph.initializer}
        self.inputs = [described_onnx(v) for v in self.model.graph.input if v.name not in weights]
        self.outputs = [described_onnx(v) for v in self.model.graph.output]

    def save(self, model, folder):
        import onnx

        onnx.save(model, folder / "model.onnx")
        return []

    def fp32(self, folder, _rows):
        return self.save(self.model, folder)

    def fp16(self, folder, _rows):
        """Weights in half the space and a Cast behind each: inputs, outputs and arithmetic stay what they were."""
        import numpy as np
        import onnx
        from onnx import helper, numpy_helper

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph, casts = model.graph, []
        given = {value.name for value in graph.input}
        for weight in graph.initializer:
            array = numpy_helper.to_array(weight)
            fits = array.dtype == np.float32 and array.size >= HALVED_ELEMENTS and np.abs(array).max() < 65504
            if not fits or weight.name in given:
                continue
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}__half"))
            casts.append(helper.make_node("Cast", [f"{name}__half"], [name], name=f"{name}__cast", to=onnx.TensorProto.FLOAT))
        if not casts:
            raise Refused("fp16: the model has no float weights worth halving; leave fp16 out")
        nodes = [*casts, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        return self.save(model, folder)

    def int8(self, folder, rows):
        import onnx

        model = self.model
        opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        if opset < 13:
            model = onnx.version_converter.convert_version(model, 17)
        made = quantised(model, rows, self.inputs)
        if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
            raise Refused("int8: the model has no layer that can be quantised; leave int8 out")
        return self.save(made, folder)


# --- OpenVINO ------------------------------------------------------------------------------------------------------------


class OpenVino:
    format = "openvino_ir"

    def __init__(self, path):
        import openvino as ov

        try:
            self.model = ov.convert_model(path) if path.is_dir() else ov.Core().read_model(path)
        except RuntimeError as error:
            what = "TensorFlow SavedModel" if path.is_dir() else "OpenVINO model"
            raise Refused(f"{path.name} is no {what} that OpenVINO takes: {last_line(error)}") from error
        self.inputs = [described(port) for port in self.model.inputs]
        self.outputs = [described(port) for port in self.model.outputs]

    def save(self, model, folder, half=False):
        import openvino as ov

        # What a converter was called with is nobody's business, and differs from folder to folder.
        for key in list(model.get_rt_info()):
            if key in ("conversion_parameters", "nncf"):
                del model.get_rt_info()[key]
        ov.save_model(model, folder / "model.xml", compress_to_fp16=half)
        self.pointer(folder)
        return ["model.xml", "model.bin"]

    def pointer(self, folder):
        import onnx
        from onnx import TensorProto, helper

        back = {"FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "FP16": TensorProto.FLOAT16, "BOOL": TensorProto.BOOL}

        def value(tensor):
            kind = back.get(tensor["datatype"]) or getattr(TensorProto, tensor["datatype"])
            shape = [d if d >= 0 else f"d{i}" for i, d in enumerate(tensor["shape"])]
            return helper.make_tensor_value_info(tensor["name"], kind, shape)

        node = helper.make_node(
            "EPContext", [t["name"] for t in self.inputs], [t["name"] for t in self.outputs], domain="com.microsoft",
            name="model", main_context=1, embed_mode=0, ep_cache_context="model.xml", source="OpenVINOExecutionProvider",
            partition_name="OpenVINOExecutionProvider_0", ep_sdk_version="",
        )
        graph = helper.make_graph([node], "model", [value(t) for t in self.inputs], [value(t) for t in self.outputs])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="muster")
        model.ir_version = 9
        onnx.save(model, folder / "model.onnx")

    def fp32(self, folder, _rows):
        return self.save(self.model, folder)

    def fp16(self, folder, _rows):
        return self.save(self.model, folder, half=True)

    def int8(self, folder, rows):
        made = quantised(self.model.clone(), rows, self.inputs)
        if not any(op.get_type_name() == "FakeQuantize" for op in made.get_ops()):
            raise Refused("int8: the model has no layer that can be quantised; leave int8 out")
        return self.save(made, folder)


# --- all of it -----------------------------------------------------------------------------------------------------------


def open_source(path):
    if not path.exists():
        raise Refused(f"{path} is not there")
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise Refused(f"{path} holds no saved_model.pb; give a .onnx file, a .xml file or the folder of a SavedModel")
        return OpenVino(path), "saved_model"
    if path.suffix == ".onnx":
        return Onnx(path), "onnx"
    if path.suffix == ".xml":
        if not path.with_suffix(".bin").is_file():
            raise Refused(f"{path.with_suffix('.bin').name} is missing beside {path.name}: OpenVINO keeps the weights there")
        return OpenVino(path), "openvino_ir"
    raise Refused(f"{path.name}: give a .onnx file, a .xml file or the folder of a SavedModel")


def convert(arguments):
    out = pathlib.Path(arguments.out)
    wanted = arguments.variants.split(",")
    progress(0.05, "reading the model")
    source, kind = open_source(pathlib.Path(arguments.source))
    if not source.inputs or not source.outputs:
        raise Refused("the model has no input or no output")
    rows = read_rows(pathlib.Path(arguments.calibration), source.inputs) if arguments.calibration else None
    if "int8" in wanted and rows is None:
        raise Refused("int8 needs rows to learn ranges from; give what the model is usually asked with --calibration")
    usual = rows or made_up(source.inputs)
    if rows:
        # Spread over all that was given: the first rows may all be of one night.
        count = len(next(iter(rows.values())))
        step = max(1, count // (CALIBRATION_ROWS * batch_size(source.inputs)))
        rows = {name: array[::step] for name, array in rows.items()}
    variants = []
    for number, precision in enumerate(wanted):
        names = {"fp32": "writing full precision", "fp16": "halving the weights", "int8": "quantising to INT8"}
        progress(0.1 + 0.85 * number / len(wanted), names[precision])
        folder = out / precision
        folder.mkdir()
        beside = getattr(source, precision)(folder, rows)
        path = lambda name: f"{precision}/{name}"  # noqa: E731
        variants.append({"precision": precision, "file": path("model.onnx"), "beside": [path(name) for name in beside]})
    (out / "golden.json").write_text(json.dumps(golden(usual, source.inputs)) + "\n")
    tools = {name: importlib.metadata.version(name) for name in ("openvino", "nncf", "onnx", "onnxruntime")}
    converted = {
        "schema": "muster-converted/1", "source": kind, "format": source.format, "tools": tools,
        "signature": {"inputs": source.inputs, "outputs": source.outputs}, "variants": variants,
    }
    (out / "converted.json").write_text(json.dumps(converted, indent=1) + "\n")
    progress(1, "converted")


def first_line(error):
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def last_line(error):
    """OpenVINO's errors begin with where in its sources they arose."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--variants", required=True)
    parser.add_argument("--calibration")
    warnings.filterwarnings("ignore")
    try:
        convert(parser.parse_args())
    except Refused as refused:
        print(refused, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
