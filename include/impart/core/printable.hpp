// printable: text of others, made fit for a line of a message.
#pragma once

#include <string>
#include <string_view>

namespace impart {

/// `text` with each control character as an escape ("\n", "\t", "\x1b"): a name from a file can neither begin a
/// line of its own, nor colour a terminal, nor cut the message off. All else, UTF-8 too, stays as it is.
std::string printable(std::string_view text);

}  // namespace impart
