"""OpenVINO itself: its import, its core, and models as bytes."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vderain.errors import EngineLoadError


def import_openvino() -> Any:
    """The openvino module; EngineLoadError where it cannot be imported.

    openvino reports its use over the network, without asking, if it finds openvino_telemetry when it is
    imported. A tool for private footage must not do so; the package is hidden during the import.
    """
    hide = "openvino_telemetry" not in sys.modules
    if hide:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None makes its import fail
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise EngineLoadError(
            f"openvino cannot be imported ({error}); pip install openvino"
        ) from error
    finally:
        if hide:
            del sys.modules["openvino_telemetry"]
    return openvino


def open_core(ov: Any) -> Any:
    """A new core; EngineLoadError where OpenVINO does not start."""
    try:
        return ov.Core()
    except RuntimeError as error:
        raise EngineLoadError(
            f"openvino does not start: {str(error).strip().splitlines()[-1]}"
        ) from error


def traced(module: Any, inputs: Sequence[Any]) -> Any:
    """What OpenVINO converts of a torch module: the trace of one call with ``inputs``.

    By itself OpenVINO has torch trace twice to compare, which takes as long again; the self-check compares predictions.
    """
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    return TorchScriptPythonDecoder(
        module, example_input=tuple(inputs), trace_kwargs={"check_trace": False}
    )


def ir_bytes(ov: Any, model: Any, *, half: bool = False) -> tuple[bytes, bytes]:
    """OpenVINO's IR of a model: the XML of the graph and its weights, in float16 with ``half``."""
    with tempfile.TemporaryDirectory() as folder:  # openvino writes to paths only
        graph, weights = Path(folder) / "graph.xml", Path(folder) / "graph.bin"
        if half:
            ov.save_model(model, graph, compress_to_fp16=True)
        else:
            ov.serialize(model, graph, weights)
        return graph.read_bytes(), weights.read_bytes()


def read_ir(core: Any, xml: bytes, weights: bytes) -> Any:
    """The model of an IR; RuntimeError where the bytes are no IR."""
    return core.read_model(io.BytesIO(xml), io.BytesIO(weights))


def widened(ov: Any, model: Any) -> Any:
    """The model with its float16 weights as float32.

    OpenVINO 2026.4 converts them itself, but then models of several streams at times use wrong weights.
    """
    for op in model.get_ops():
        source = op.input_value(0).get_node() if op.get_type_name() == "Convert" else op
        is_constant = source is not op and source.get_type_name() == "Constant"
        if is_constant and source.get_element_type() == ov.Type.f16:
            wide = ov.opset13.constant(source.data.astype(np.float32))
            op.output(0).replace(wide.output(0))
    model.validate_nodes_and_infer_types()
    return model


def pack(ov: Any, model: Any) -> bytes:
    """A model as one block of bytes: the length of the graph's XML, the XML, the weights."""
    xml, weights = ir_bytes(ov, model)
    return len(xml).to_bytes(8, "little") + xml + weights


def unpack(core: Any, blob: bytes) -> Any:
    """The inverse of ``pack``; RuntimeError where the bytes are no IR."""
    end = 8 + int.from_bytes(blob[:8], "little")
    return read_ir(core, blob[8:end], blob[end:])
