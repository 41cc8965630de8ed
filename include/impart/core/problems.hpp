// Problems: everything that is wrong with settings, each with its place, reported at once.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace impart {

/// Where a setting was written.
struct Place {
  std::string text;  ///< "inputs/digits.toml:31", or "--set stage.teacher.epochs=1"
  int line = 0;      ///< orders problems; 0 for a value of the command line
};

/// The place of every setting, by its path: "stage.teacher.optimizer.momentum".
class Places {
 public:
  void add(std::string path, Place place);
  /// The place of `path`, or of the nearest table around it; the file itself when there is none.
  [[nodiscard]] Place find(std::string_view path) const;

 private:
  std::map<std::string, Place, std::less<>> places_;
};

/// Collects problems instead of throwing at the first. Texts are made printable here.
class Problems {
 public:
  /// `path`: the setting that is wrong; `text`: what is wrong with it, "expected an integer, got the text
  /// \"five\"".
  void add(const Places& places, std::string_view path, std::string_view text);
  void add(Place place, std::string_view text);

  [[nodiscard]] bool empty() const noexcept { return found_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return found_.size(); }
  /// One line each, "inputs/digits.toml:31: stage.teacher.epochs: ...", in the order of the file; each once.
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  struct Problem {
    int line;
    std::string text;
  };
  std::vector<Problem> found_;
};

}  // namespace impart
