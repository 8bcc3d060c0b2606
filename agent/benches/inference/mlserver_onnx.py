"""A model of MLServer's that runs an ONNX file as the agent's sessions do: one thread, f32."""
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before it is loaded

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Onnx(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = self.settings.parameters.extra["file"]
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        inputs = {one.name: self.decode(one, default_codec=NumpyCodec) for one in payload.inputs}
        names = [one.name for one in self.session.get_outputs()]
        outputs = [NumpyCodec.encode_output(*one) for one in zip(names, self.session.run(names, inputs))]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)
