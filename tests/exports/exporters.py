"""The ways people turn a torch module into ONNX, each a function of (case, opset, dynamic or static)."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from exports.case import Case

DYNAMO_OPSETS = (18, 20, 21, 23, 24)
LEGACY_OPSETS = (11, 13, 14, 17, 20)
OPTIMUM_OPSET = 18


def dynamo(case: Case, opset: int, dynamic: bool = True) -> onnx.ModelProto:
    """torch.export, then torch's ONNX decompositions and onnxscript's optimizer: today's default."""
    shapes = {"tensors": tuple(case.axes.get(name, {}) for name in case.inputs)} if dynamic else None
    program = torch.onnx.export(
        case.module,
        tuple(case.inputs.values()),
        input_names=list(case.inputs),
        output_names=case.outputs,
        dynamo=True,
        opset_version=opset,
        dynamic_shapes=shapes,
        verbose=False,
    )
    return program.model_proto


def legacy(case: Case, opset: int, dynamic: bool = True) -> onnx.ModelProto:
    """TorchScript tracing, torch's default until 2.8 and what optimum uses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            case.module,
            tuple(case.inputs.values()),
            path,
            input_names=list(case.inputs),
            output_names=case.outputs,
            dynamo=False,
            opset_version=opset,
            dynamic_axes=case.axes if dynamic else None,
        )
        return onnx.load(path)


EXPORTERS = {"dynamo": dynamo, "legacy": legacy, "optimum": legacy}


def export(exporter: str, case: Case, opset: int, dynamic: bool = True) -> onnx.ModelProto:
    """The exported model, with nothing printed; what it knows of its exporter stays in producer_name."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            model = EXPORTERS[exporter](case, opset, dynamic)
        finally:
            logging.disable(logging.NOTSET)
    return model
