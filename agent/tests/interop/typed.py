"""Asks with typed tensors, as a client made from our own description does:  typed.py FOLDER_OF_THE_COMPILED_FILE HOST:PORT"""
import sys

import grpc

sys.path.insert(0, sys.argv[1])
import open_inference_pb2 as oip

CONTENTS = {
    "bool": "bool_contents", "uint8": "uint_contents", "uint16": "uint_contents", "uint32": "uint_contents",
    "uint64": "uint64_contents", "int8": "int_contents", "int16": "int_contents", "int32": "int_contents",
    "int64": "int64_contents", "fp32": "fp32_contents", "fp64": "fp64_contents",
}

channel = grpc.insecure_channel(sys.argv[2])


def call(method, request, answer):
    path = f"/inference.GRPCInferenceService/{method}"
    ask = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
    return ask(request, timeout=20)


assert call("ServerLive", oip.ServerLiveRequest(), oip.ServerLiveResponse).live
assert call("ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse).ready
assert call("ModelReady", oip.ModelReadyRequest(name="m"), oip.ModelReadyResponse).ready
assert "statistics" in call("ServerMetadata", oip.ServerMetadataRequest(), oip.ServerMetadataResponse).extensions
model = call("ModelMetadata", oip.ModelMetadataRequest(name="m"), oip.ModelMetadataResponse)
assert len(model.properties["bundle"]) == 64, model
config = call("ModelConfig", oip.ModelConfigRequest(name="m"), oip.ModelConfigResponse).config
assert config.backend == "onnxruntime" and config.instance_group[0].kind == oip.ModelInstanceGroup.KIND_CPU, config
stats = call("ModelStatistics", oip.ModelStatisticsRequest(), oip.ModelStatisticsResponse)
assert {"m", "echo"} <= {entry.name for entry in stats.model_stats}, stats
index = call("RepositoryIndex", oip.RepositoryIndexRequest(ready=True), oip.RepositoryIndexResponse)
assert all(entry.state == "READY" for entry in index.models) and len(index.models) >= 4, index

# One text.
request = oip.ModelInferRequest(model_name="text")
request.inputs.add(name="t", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"ab", b""])
answer = call("ModelInfer", request, oip.ModelInferResponse)
assert list(answer.outputs[0].contents.bytes_contents) == [b"ab", b""], answer

# Rows of a table.
request = oip.ModelInferRequest(model_name="m", id="t-1")
request.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([1, 2, 3, 0.5])
answer = call("ModelInfer", request, oip.ModelInferResponse)
assert answer.id == "t-1" and abs(answer.outputs[0].contents.fp32_contents[0] - 0.586618) < 1e-4, answer

# The short floats have no typed form, so a model that wants them refuses; half raw, half typed is refused too.
request = oip.ModelInferRequest(model_name="echo")
for name, field in CONTENTS.items():
    getattr(request.inputs.add(name=name, datatype=name.upper(), shape=[1, 2]).contents, field).extend([0, 1])
for raw in [[], [b"\0\0\0\0"]]:
    del request.raw_input_contents[:]
    request.raw_input_contents.extend(raw)
    try:
        call("ModelInfer", request, oip.ModelInferResponse)
        raise AssertionError("it was accepted")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
