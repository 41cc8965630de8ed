// Error: one line that a user can act on.
#pragma once

#include <exception>
#include <string>

namespace impart {

/// Decides the exit code of the program (DESIGN.md, section 4).
enum class ErrorKind {
  kRun,    ///< failed while running: exit code 1
  kUsage,  ///< wrong usage or an invalid deck, nothing was started: exit code 2
};

/// What went wrong, where, what was expected, what came, and what to do, composed into one line:
///
///   data/labels.gz: label outside the classes: expected 0 to 9, got 17 at record 4 (check `classes`)
///
/// Only `what` is obligatory; the rest is added by name:
///
///   throw Error("label outside the classes").at(path).expected("0 to 9").got("17 at record 4");
class Error : public std::exception {
 public:
  explicit Error(std::string what, ErrorKind kind = ErrorKind::kRun);

  Error& at(std::string where) &;
  Error&& at(std::string where) &&;
  Error&& expected(std::string expected) &&;
  Error&& got(std::string got) &&;
  Error&& hint(std::string hint) &&;
  /// Says that every rank throws this same error, so that one report is enough and nobody waits (see
  /// comm::agree).
  Error&& collective() &&;

  [[nodiscard]] const char* what() const noexcept override { return line_.c_str(); }
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  [[nodiscard]] bool is_collective() const noexcept { return collective_; }

 private:
  void compose();

  ErrorKind kind_;
  bool collective_ = false;
  std::string where_, what_, expected_, got_, hint_, line_;
};

}  // namespace impart
