// Element types: their names, which C++ type holds each, and sets of them.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "ort_abi.h"

namespace spikec {

using abi::ElementType;
using Shape = std::vector<std::int64_t>;

// An error with a code of the runtime; every other exception is reported as a plain failure.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what, abi::ErrorCode code = abi::ErrorCode::InvalidArgument)
      : std::runtime_error(what), code_(code) {}
  abi::ErrorCode code() const noexcept { return code_; }

 private:
  abi::ErrorCode code_;
};

// The element type that C++ type T holds.
template <class T>
consteval ElementType element_type() {
  if constexpr (std::is_same_v<T, float>)
    return ElementType::Float;
  else if constexpr (std::is_same_v<T, double>)
    return ElementType::Double;
  else if constexpr (std::is_same_v<T, std::int8_t>)
    return ElementType::Int8;
  else if constexpr (std::is_same_v<T, std::int16_t>)
    return ElementType::Int16;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return ElementType::Int32;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return ElementType::Int64;
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return ElementType::UInt8;
  else if constexpr (std::is_same_v<T, std::uint16_t>)
    return ElementType::UInt16;
  else if constexpr (std::is_same_v<T, std::uint32_t>)
    return ElementType::UInt32;
  else if constexpr (std::is_same_v<T, std::uint64_t>)
    return ElementType::UInt64;
  else if constexpr (std::is_same_v<T, bool>)
    return ElementType::Bool;
  else
    static_assert(!sizeof(T), "no tensor holds this type");
}

// The runtime's name of a type: "float", "int8", ...
const char* type_name(ElementType type);

// A set of element types; empty means any.
class Types {
 public:
  constexpr Types() = default;
  template <class... T>
  static constexpr Types of() {
    Types types;
    ((types.bits_ |= bit(element_type<T>())), ...);
    return types;
  }
  constexpr bool contains(ElementType type) const { return bits_ == 0 || (bits_ & bit(type)) != 0; }
  // The type, when there is exactly one; Undefined (the runtime's "any") otherwise.
  constexpr ElementType only() const {
    for (std::uint32_t i = 1; i < 32; ++i)
      if (bits_ == 1u << i) return ElementType{i};
    return ElementType::Undefined;
  }
  std::vector<std::string> names() const;

 private:
  static constexpr std::uint32_t bit(ElementType type) {
    const auto number = static_cast<std::uint32_t>(type);
    return number < 32 ? 1u << number : 0;
  }
  std::uint32_t bits_ = 0;
};

inline constexpr Types kAnyInteger = Types::of<std::int8_t, std::int16_t, std::int32_t>();

std::int64_t element_count(std::span<const std::int64_t> shape);
std::string to_string(std::span<const std::int64_t> shape);

}  // namespace spikec
