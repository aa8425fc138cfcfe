"""LAS: outlier-aware threshold neurons at every site, spike-equivalent products, bit-serial non-linearities.

Source: arXiv 2505.09659 (AAAI-26). Ours differs where the released code is not spike-driven: ranges are
chosen from data instead of typed, every product runs on spikes, and successive approximation replaces its
lookup tables.
"""

from __future__ import annotations

from .method import Method

LAS = Method(
    name="las",
    source="arXiv 2505.09659 (AAAI-26), doi 10.1609/aaai.v40i3.37151",
    guarantee="L1: equals the network quantised by its encoders, and the ANN within the budget measured",
    timesteps=16,
    function_bits=12,
    encoder="OATEncode",
    operators={
        "linear": "SpikeLinear",
        "matmul_dynamic": "SpikeMatMul",
        "softmax": "SpikeSoftmax",
        "rmsnorm": "SpikeRMSNorm",
        "layernorm": "SpikeLayerNorm",
        "activation": "SpikeFunction",
    },
    kept={
        "embedding": "a table look-up has no products; its row is the input current of the first site",
        "router": "kept dense: which experts run must not change with the rounding of spikes",
        "head": "kept dense: next-token scores are read as they are",
    },
)
