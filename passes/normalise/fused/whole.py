"""Operators that have no plain form here, and why."""

from __future__ import annotations

PACKED = "its batch is packed without padding, which only GPU kernels take; export the model without packing"
CACHE = "it works on a cache in the kernel's own layout, for one decoding step; export the model without it"
SEARCH = "it is a whole search around a model; give the model inside it"

WHOLE: dict[tuple[str, str], str] = {
    ("com.microsoft", name): why
    for why, names in (
        (PACKED, "PackedAttention PackedMultiHeadAttention RemovePadding RestorePadding PagedAttention"),
        (CACHE, "DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DecoderAttention"),
        (SEARCH, "BeamSearch GreedySearch Sampling WhisperBeamSearch"),
        ("its keys are chosen by blocks or windows in the kernel", "SparseAttention LongformerAttention"),
        ("its experts are quantised, chosen and mixed inside the kernel", "QMoE"),
        (
            "its tensors are quantised and ordered for one GPU kernel",
            "QOrderedAttention QOrderedGelu QOrderedLayerNormalization QOrderedMatMul",
        ),
        (
            "its bias is made by a kernel that only GPUs have",
            "GatedRelativePositionBias RelativePositionBias",
        ),
        ("it keeps a state of its own from token to token", "LinearAttention GatedDeltaNet"),
    )
    for name in names.split()
}
