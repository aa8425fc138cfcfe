// Every op file defines one of these functions; library.cc calls each.
#pragma once

#include "op.h"

namespace spikec {

void add_decode(OpList& list);

}  // namespace spikec
