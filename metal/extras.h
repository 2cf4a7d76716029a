// The operands of a product other than its factors.
#pragma once

#include "expression.h"

struct Ends {
  device char* result;
  const device char* bias;
  const device char* extra[NPU_EXTRAS];
};
