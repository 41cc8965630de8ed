#include "impart/core/error.hpp"

#include <utility>

#include "impart/core/printable.hpp"

namespace impart {

Error::Error(std::string what, ErrorKind kind) : kind_(kind), what_(std::move(what)) { compose(); }

Error& Error::at(std::string where) & {
  // The place nearest to the cause comes last: "stage teacher: conv1: ...".
  where_ = where_.empty() ? std::move(where) : std::move(where) + ": " + where_;
  compose();
  return *this;
}

Error&& Error::at(std::string where) && {
  at(std::move(where));
  return std::move(*this);
}

Error&& Error::expected(std::string expected) && {
  expected_ = std::move(expected);
  compose();
  return std::move(*this);
}

Error&& Error::got(std::string got) && {
  got_ = std::move(got);
  compose();
  return std::move(*this);
}

Error&& Error::hint(std::string hint) && {
  hint_ = std::move(hint);
  compose();
  return std::move(*this);
}

Error&& Error::collective() && {
  collective_ = true;
  return std::move(*this);
}

void Error::compose() {
  line_ = where_.empty() ? what_ : where_ + ": " + what_;
  if (!expected_.empty()) line_ += ": expected " + expected_;
  if (!got_.empty()) line_ += (expected_.empty() ? ": got " : ", got ") + got_;
  if (!hint_.empty()) line_ += " (" + hint_ + ")";
  line_ = printable(line_);
}

}  // namespace impart
