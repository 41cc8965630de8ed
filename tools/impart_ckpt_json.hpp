// JSON out of impart-ckpt: objects keep the order in which they are filled, and no text can break them.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace impart::tool {

using Json = nlohmann::ordered_json;

/// What is not finite becomes null, and bytes that are no UTF-8 become replacement characters.
inline void print_json(const Json& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace impart::tool
