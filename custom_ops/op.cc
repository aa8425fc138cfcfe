#include "op.h"

namespace spikec {

namespace {

template <class Items, class Text>
std::string joined(const Items& items, const char* separator, Text&& text) {
  std::string all;
  for (const auto& item : items) all += (all.empty() ? "" : separator) + text(item);
  return all;
}

// Names here are identifiers, so nothing needs escaping.
std::string quoted(const std::string& text) { return '"' + text + '"'; }

std::string port_json(const Port& port) {
  constexpr std::array arities{"required", "optional", "variadic"};
  return "{\"name\": " + quoted(port.name) + ", \"types\": [" + joined(port.types.names(), ", ", quoted) +
         "], \"arity\": " + quoted(arities[static_cast<std::size_t>(port.arity)]) + "}";
}

std::string attribute_json(const Attribute& attribute) {
  constexpr std::array types{"undefined", "int", "ints", "float", "floats", "string", "strings"};
  return quoted(attribute.name) + ": " + quoted(types[static_cast<std::size_t>(attribute.type)]);
}

}  // namespace

void check_input_types(const KernelInfo& info, std::span<const Port> ports) {
  const std::size_t count = info.input_count();
  for (std::size_t i = 0; i < count; ++i) {
    const Port& port = ports[std::min(i, ports.size() - 1)];  // the last may be variadic
    const ElementType type = info.input_type(i);
    if (type == ElementType::Undefined || port.types.contains(type)) continue;
    const auto same = [](const std::string& name) { return name; };
    throw Error(std::string("input ") + port.name + " is " + type_name(type) + ", expected " +
                joined(port.types.names(), " or ", same));
  }
}

void OpList::describe(const char* name, std::span<const Port> inputs, std::span<const Port> outputs,
                      std::span<const Attribute> attributes) {
  if (!json_.empty()) json_ += ", ";
  json_ += "{\"name\": " + quoted(name) + ", \"inputs\": [" + joined(inputs, ", ", port_json) +
           "], \"outputs\": [" + joined(outputs, ", ", port_json) + "], \"attributes\": {" +
           joined(attributes, ", ", attribute_json) + "}}";
}

}  // namespace spikec
