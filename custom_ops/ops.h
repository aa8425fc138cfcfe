// Every op file defines one of these functions; library.cc calls each.
#pragma once

#include "op.h"

namespace spikec {

void add_burst_encode(OpList& list);
void add_decode(OpList& list);
void add_function(OpList& list);
void add_gif_encode(OpList& list);
void add_int2spike(OpList& list);
void add_is_encode(OpList& list);
void add_lif_encode(OpList& list);
void add_linear(OpList& list);
void add_matmul(OpList& list);
void add_multiply(OpList& list);
void add_norms(OpList& list);
void add_oat_encode(OpList& list);
void add_self_attention(OpList& list);
void add_few_spikes_encode(OpList& list);
void add_sign_split_encode(OpList& list);
void add_softmax(OpList& list);

}  // namespace spikec
