// "did you mean": the known word that is nearest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace impart {

/// "did you mean 'x'?" for the known word nearest to `word`, or "" when none is near: at most one edit for
/// every three letters. An edit inserts, drops or changes a letter, or swaps two neighbours; case does not
/// count. Of equally near words the first is taken.
std::string suggestion(std::string_view word, std::span<const std::string_view> known);

}  // namespace impart
