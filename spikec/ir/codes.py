"""The diagnostic codes: what each remark means and what a user can do about it.

`python -m spikec.ir.codes > docs/diagnostics.md` makes the documentation.
"""

from __future__ import annotations

from .diagnostics import CODES, Code

CODES |= {
    # 1xx: what was recognised, and what was not
    "SPK101": Code(
        "warning",
        "normalisation not recognised",
        "A mean of activations was found whose numbers match neither layer nor root-mean-square "
        "normalisation over the last axis, or whose interior values are read elsewhere.",
        "Export the norm over the last axis with constant gain and shift, without other readers inside it.",
    ),
    "SPK102": Code(
        "warning",
        "function not recognised",
        "A non-linear operator works on activations, but belongs to no closed elementwise function of one "
        "value.",
        "Look at the node: an interior value that is read elsewhere, or a second activation, keeps it open.",
    ),
    "SPK103": Code(
        "warning",
        "product not convertible",
        "A product of an activation and constant weights has a form that no spiking operator takes.",
        "Where you can, give a weight matrix of two dimensions on the right-hand side. Convolutions, experts "
        "whose weights a router picks at run time, and projections of constants stay dense.",
    ),
    "SPK104": Code(
        "warning",
        "softmax over another axis",
        "Spiking softmax works along the last axis only.",
        "Export with the softmax axis last.",
    ),
    "SPK105": Code(
        "note",
        "softmax outside attention",
        "A softmax does not stand between two products of activations: a router of experts, or another use.",
        "Nothing need be done; it is tagged so that you know.",
    ),
    "SPK106": Code(
        "warning",
        "multiply-accumulates unknown",
        "The shapes of a node are not known, so its share of the arithmetic cannot be told.",
        "Run shape inference on the model before compiling, or export it with shapes.",
        aside=True,
    ),
    "SPK107": Code(
        "note",
        "spiking nodes of unknown shape",
        "Some spiking nodes have unknown shapes; they are converted, but their arithmetic is not counted.",
        "Run shape inference on the model before compiling, or export it with shapes.",
    ),
    "SPK111": Code(
        "note",
        "close to a known function",
        "A scalar function was converted as what it computes, but it is close to a known one: a constant may "
        "be wrong in the export.",
        "Compare the constants near the node with those of the function named.",
    ),
    "SPK112": Code(
        "warning",
        "relative of softmax",
        "Exponentials and their sum are found that are no softmax of one value over the last axis: the "
        "logarithm of a softmax, a masked sum, a sink inside the sum.",
        "Nothing need be done; it stays an ordinary operator.",
    ),
    "SPK113": Code(
        "note",
        "sum over a row",
        "Activations are summed or searched along an axis outside every normalisation and softmax.",
        "Nothing need be done; it stays an ordinary operator.",
    ),
    "SPK199": Code(
        "warning",
        "operator on activations stays ordinary",
        "An operator inside a block works on activations and belongs to nothing that was recognised. It is "
        "no remark of its own; `--strict` and `spikec explain --all-unmatched` list it.",
        "Look at the region around it with `spikec explain MODEL NODE`; if it is a common part of a "
        "transformer, report it with the model.",
    ),
    "SPK120": Code(
        "warning",
        "operator that no runtime knows",
        "The operator's domain is neither ONNX's nor ONNX Runtime's, and the model has no function of that "
        "name, so neither the original nor the spiking model could run.",
        "Export the model with the operator spelled out, or with its definition as a local function.",
    ),
    "SPK121": Code(
        "note",
        "attention not proved in full",
        "Products and softmax of an attention are known, and each is converted exactly; what lies between "
        "them (its scale, its mask, its heads) could not be measured.",
        "Nothing need be done for a conversion; the facts named stay unknown in reports.",
    ),
    # 2xx: rewrites
    "SPK201": Code(
        "warning",
        "rewrite refused",
        "A recognised part stays an ordinary operator, because its certificate does not hold.",
        "See the reason in the message; more timesteps (-T) make the spiking operators finer.",
    ),
    "SPK202": Code(
        "warning",
        "activation saturates on this data",
        "Calibration inputs leave the range that the spiking function covers.",
        "Check the calibration data for values that real use will not have.",
        aside=True,
    ),
    "SPK203": Code(
        "note",
        "activation covers a short range",
        "The spiking function's codes end early on one side.",
        "Nothing need be done unless inputs go beyond the range named.",
    ),
    "SPK204": Code(
        "warning",
        "sums of codes too large",
        "A product of two activations stays an ordinary operator: at this many timesteps the sums of its "
        "codes could pass 2**53, beyond which they would not be exact. Known only once calibration has "
        "chosen the codes, so `inspect` cannot tell.",
        "Use fewer timesteps (a smaller -T).",
    ),
    "SPK205": Code(
        "note",
        "spike counts saturate on this data",
        "Some values of a site need more spikes than its timesteps hold, and are clipped.",
        "Use more timesteps (a larger -T), or `--set saturate=raise`, which raises such a token's threshold.",
    ),
    "SPK250": Code(
        "note",
        "trained attention put in",
        "Fine-tuned spike-based self-attention takes the place of the model's own: another network, which is "
        "as close to the original as its training made it, and no closer at more timesteps.",
        "Measure it with `spikec verify` on text that it was not trained on.",
    ),
    # 3xx: the model itself
    "SPK301": Code(
        "warning",
        "original does not run at twice the batch",
        "The exported model itself fails when its batch is doubled.",
        "Export again with a free batch dimension, or use it at the exported batch only.",
    ),
    "SPK302": Code(
        "note",
        "shorter calibration",
        "The model takes no longer inputs, so it was calibrated on shorter sequences.",
        "Nothing need be done.",
    ),
    "SPK303": Code(
        "warning",
        "original does not run as it is",
        "ONNX Runtime cannot run the exported model (for want of kernels for its types or operators, or for "
        "a fault of its own), but runs it as spikec normalises it; the message says with what that could be "
        "compared.",
        "Check the result on data of your own, or export the model in float32 with standard operators.",
    ),
    # 40x: fused operators
    "SPK401": Code(
        "warning",
        "fused operator without a plain form",
        "The operator does several things in one kernel, and spikec knows no plain operators that give the "
        "same numbers: all of it stays on host.",
        "Export the model without this fusion; the message says what stands in the way.",
    ),
    "SPK402": Code(
        "warning",
        "fused operator with a setting that is not taken apart",
        "The operator is known, but not with the attribute, input or mask that the message names.",
        "Export the model without this setting, or without the fusion.",
    ),
    "SPK403": Code(
        "warning",
        "fused operator whose side output is read",
        "A fused operator gives a second result that is read, and that no plain operator gives.",
        "Export the model without this output.",
    ),
    "SPK404": Code(
        "warning",
        "fused operator of unknown shape",
        "A rank or size that decides what the operator computes cannot be told from the file.",
        "Run shape inference on the model before compiling, or export it with shapes.",
    ),
    # 42x to 44x: other words for the same model
    "SPK420": Code(
        "note",
        "computes in float32",
        "Weights and arithmetic in half or double precision became float32; inputs and outputs keep their "
        "types, but for bfloat16, which ONNX Runtime's Python side cannot hand over.",
        "Nothing need be done; the original's own rounding is not reproduced.",
    ),
    "SPK421": Code(
        "note",
        "quantised weights",
        "Integer weights are used at the real values they stand for.",
        "Nothing need be done; `--weights int8` quantises again.",
    ),
    "SPK422": Code(
        "note",
        "quantised activations computed as real numbers",
        "The model rounds activations to integers on the way into a product; spikes take the place of that, "
        "so the rounding is left out.",
        "Nothing need be done; compare with the float model that this one was quantised from.",
    ),
    "SPK423": Code(
        "warning",
        "quantised operator stays ordinary",
        "An operator on integers is not one that spikec knows as a product of real numbers.",
        "Give the float model that this one was quantised from.",
    ),
    "SPK430": Code(
        "warning",
        "part of the model inside control flow",
        "Attention, norms or products stand in the body of an If, Loop or Scan. They are counted, but "
        "nothing is converted there, because calibration cannot look inside.",
        "Export the model without the control flow: one branch alone, or the loop unrolled.",
    ),
    "SPK431": Code(
        "note",
        "one branch compiled",
        "The whole transformer stands in the branches of one choice that an input makes; the branch named is "
        "compiled, the other one is dropped.",
        "Export the other branch as a model of its own if it is needed.",
    ),
}

RETIRED: frozenset[str] = frozenset()
"""Numbers that once meant something and mean nothing now: they are never given anew."""

FAMILIES = {
    "SPK1": "Recognition: what was found, and what was not",
    "SPK2": "Rewriting: what was kept back, and what to know of what was rewritten",
    "SPK3": "The model itself",
    "SPK4": "Normalisation: what was put in other words, and what was kept whole",
}

MADE = "<!-- Made by `python -m spikec.ir.codes > docs/diagnostics.md`; edit `spikec/ir/codes.py`. -->"
PREFACE = (
    "Every remark has a code, whose number never changes its meaning; `spikec explain CODE` prints",
    "what stands here. A *warning* says that something was not converted or may be wrong, a *note* asks for",
    "nothing. With `--strict` a warning makes `compile` and `inspect` exit with 3, except where it says",
    "otherwise and where it speaks of the model itself (SPK3).",
)


def as_markdown() -> str:
    """`docs/diagnostics.md`, whole."""
    lines = ["# Diagnostics", "", MADE, "", *PREFACE]
    for family, title in FAMILIES.items():
        numbers = sorted(code for code in CODES if code.startswith(family))
        lines += ["", f"## {title}"] if numbers else []
        for number in numbers:
            lines += ["", f"### {number}: {CODES[number].title}", "", *_entry(CODES[number])]
    return "\n".join(lines) + "\n"


def _entry(code: Code) -> list[str]:
    severity = f"*{code.severity.capitalize()}"
    if code.severity == "warning" and code.aside:
        severity += "; `--strict` passes it over"
    return [f"{severity}.* {code.explanation}", "", f"What you can do: {code.remedy}"]


if __name__ == "__main__":
    print(as_markdown(), end="")
