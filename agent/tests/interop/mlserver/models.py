"""The suite's models for MLServer."""
import asyncio

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class Logistic(MLModel):
    async def predict(self, payload):
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        score = 1 / (1 + np.exp(-(x @ np.float32([[0.5], [-1.0], [0.25], [2.0]]) + 0.1)))
        outputs = [NumpyCodec.encode_output("score", score.astype(np.float32))]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


class Echo(MLModel):
    async def predict(self, payload):
        outputs = [NumpyCodec.encode_output(f"{i.name}_out", self.decode(i, default_codec=NumpyCodec)) for i in payload.inputs]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


class Text(MLModel):
    async def predict(self, payload):
        texts = StringCodec.decode_input(payload.inputs[0])
        outputs = [StringCodec.encode_output("t_out", texts)]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


class Slow(Echo):
    async def predict(self, payload):
        await asyncio.sleep(0.3)
        return await super().predict(payload)
