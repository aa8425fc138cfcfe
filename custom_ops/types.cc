#include "types.h"

#include <array>

namespace spikec {

const char* type_name(ElementType type) {
  constexpr std::array names{"undefined", "float",  "uint8",     "int8",       "uint16",  "int16",
                             "int32",     "int64",  "string",    "bool",       "float16", "double",
                             "uint32",    "uint64", "complex64", "complex128", "bfloat16"};
  const auto number = static_cast<std::size_t>(type);
  return number < names.size() ? names[number] : "unknown";
}

std::vector<std::string> Types::names() const {
  std::vector<std::string> names;
  for (std::uint32_t i = 1; i < 32; ++i)
    if (bits_ & 1u << i) names.emplace_back(type_name(ElementType{i}));
  return names;
}

std::int64_t element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  return count;
}

std::string to_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t dim : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  return text + "]";
}

}  // namespace spikec
