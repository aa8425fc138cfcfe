"""The diagnostic codes: what each remark means and what a user can do about it. `docs/diagnostics.md` is made
from this."""

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
        "Give a weight matrix of two dimensions on the right-hand side.",
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
    ),
    "SPK107": Code(
        "note",
        "spiking nodes of unknown shape",
        "Some spiking nodes have unknown shapes; they are converted, but their arithmetic is not counted.",
        "Run shape inference on the model before compiling, or export it with shapes.",
    ),
    # 2xx: rewrites
    "SPK201": Code(
        "warning",
        "rewrite refused",
        "A recognised part stays an ordinary operator, because its certificate does not hold or a limit "
        "would be passed.",
        "See the reason in the message; more timesteps (-T) make the spiking operators finer.",
    ),
    "SPK202": Code(
        "warning",
        "activation saturates on this data",
        "Calibration inputs leave the range that the spiking function covers.",
        "Check the calibration data for values that real use will not have.",
    ),
    "SPK203": Code(
        "note",
        "activation covers a short range",
        "The spiking function's codes end early on one side.",
        "Nothing need be done unless inputs go beyond the range named.",
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
}
