"""Same model, same bytes: twice, and whatever order its nodes, weights and shapes have in the file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import models
import numpy as np
import onnx
import pytest

from spikec.compile import compile_model

STORY = Path(__file__).parents[2] / "examples" / "story" / "model.onnx"


def shuffled(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same model: nodes in another order that keeps producers first, everything else in any."""
    rng = np.random.default_rng(seed)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = list(model.graph.node)
    made = {name for node in nodes for name in node.output if name}
    known: set[str] = set()
    del copy.graph.node[:]
    while nodes:
        ready = [i for i, node in enumerate(nodes) if all(n in known for n in node.input if n in made)]
        node = nodes.pop(ready[rng.integers(len(ready))])
        known.update(node.output)
        chosen = copy.graph.node.add()
        chosen.CopyFrom(node)
        chosen.doc_string = f"line {len(nodes)} of a trace"
        del chosen.attribute[:]
        chosen.attribute.extend(node.attribute[i] for i in rng.permutation(len(node.attribute)))
    for field in (copy.graph.initializer, copy.graph.value_info, copy.opset_import):
        items = list(field)
        del field[:]
        field.extend(items[i] for i in rng.permutation(len(items)))
    copy.producer_name, copy.producer_version, copy.doc_string = "another", str(seed), "told otherwise"
    copy.graph.doc_string, copy.graph.name = "so is this", f"graph {seed}"
    copy.metadata_props.add(key="day", value=str(seed))
    return copy


def unnamed(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        node.name = ""
    return model


def compiled(folder: Path, model: onnx.ModelProto, external: bool) -> dict[str, str]:
    """What is in the compiled folder, by file name."""
    folder.mkdir()
    data = {"save_as_external_data": True, "location": "model.data"} if external else {}
    onnx.save(model, folder / "model.onnx", **data)
    compile_model(folder / "model.onnx", folder / "out")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "out").iterdir()}


CASES = {
    **{name: make for name, make in models.MAKERS.items()},
    "unnamed": lambda: unnamed(models.llama(seed=3)),
    "story": lambda: onnx.load(STORY),
}


@pytest.mark.parametrize("external", [False, True], ids=["inline", "external"])
@pytest.mark.parametrize("name", CASES)
def test_the_order_in_the_file_does_not_matter(tmp_path: Path, name: str, external: bool) -> None:
    if name == "story" and external:
        pytest.skip("once is enough for the large one")
    first = compiled(tmp_path / "first", CASES[name](), external)
    again = compiled(tmp_path / "again", CASES[name](), external)
    assert first == again
    other = compiled(tmp_path / "other", shuffled(CASES[name](), seed=1), external)
    assert first == other
