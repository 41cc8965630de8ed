// counted: a number and its noun, for messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace impart {

/// "1 rank", "3 ranks".
inline std::string counted(std::int64_t n, std::string_view noun) {
  auto text = std::to_string(n);
  text += ' ';
  text += noun;
  if (n != 1) text += 's';
  return text;
}

}  // namespace impart
