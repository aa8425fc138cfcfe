"""Encoders of text of transformers, with the heads people export them with."""

from __future__ import annotations

import torch
import transformers as hf
from exports.case import Build, Case, case, tokens
from exports.decoders import FEED_FORWARD, HEADS, HIDDEN, LAYERS, POSITIONS, SIZES


def encoder(model: str, config_name: str, outputs: list[str], **sizes: object) -> Build:
    """Builds the named model: ids and mask to the chosen outputs."""

    def build(attention: str) -> Case:
        torch.manual_seed(0)
        config = getattr(hf, f"{config_name}Config")(**SIZES | sizes, attn_implementation=attention)
        return case(getattr(hf, model)(config).eval(), tokens(), outputs)

    return build


DISTIL = {
    "dim": HIDDEN,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "hidden_dim": FEED_FORWARD,
}
DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "max_relative_positions": POSITIONS,
    "position_biased_input": False,
}
DEBERTA_V3 = DEBERTA | {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 8}

ARCHITECTURES: dict[str, Build] = {
    "bert": encoder("BertModel", "Bert", ["last_hidden_state", "pooler_output"]),
    "bert_mlm": encoder("BertForMaskedLM", "Bert", ["logits"]),
    "bert_classifier": encoder("BertForSequenceClassification", "Bert", ["logits"], num_labels=3),
    "roberta": encoder("RobertaForMaskedLM", "Roberta", ["logits"]),
    "albert": encoder("AlbertForMaskedLM", "Albert", ["logits"], embedding_size=20, num_hidden_layers=3),
    "electra": encoder("ElectraForPreTraining", "Electra", ["logits"], embedding_size=20),
    "distilbert": encoder("DistilBertForMaskedLM", "DistilBert", ["logits"], **DISTIL),
    "mpnet": encoder("MPNetForMaskedLM", "MPNet", ["logits"]),
    "deberta": encoder("DebertaForMaskedLM", "Deberta", ["logits"], **DEBERTA),
    "deberta_v3": encoder("DebertaV2ForMaskedLM", "DebertaV2", ["logits"], **DEBERTA_V3),
    "modernbert": encoder(
        "ModernBertForMaskedLM", "ModernBert", ["logits"], local_attention=4, global_attn_every_n_layers=2
    ),
}
