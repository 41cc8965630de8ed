#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "impart/core/error.hpp"
#include "io/byte_stream.hpp"
#include "io/formats/formats.hpp"
#include "io/samples.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

// No number is longer; a file that has no separators must not be collected whole into one field.
constexpr std::size_t kMaxField = 64 * 1024;
constexpr std::size_t kMaxShown = 40;

/// Splits a file into records of fields (RFC 4180). Blank lines are passed over, and a byte order mark.
class CsvParser {
 public:
  CsvParser(const fs::path& path, char separator)
      : stream_(path), path_(path.string()), separator_(separator), buffer_(256 * 1024) {}

  /// Calls `field(index, text)` for each field of the next record; the number of fields, 0 at the end of the
  /// file.
  template <class Field>
  std::size_t record(const Field& field) {
    std::size_t index = 0;
    line_ = next_line_;
    for (;;) {
      const bool was_quoted = read_field();
      const bool is_blank = index == 0 && field_.empty() && !was_quoted;
      if (ended_by_ != separator_ && is_blank) {
        if (ended_by_ == kEnd) return 0;
        line_ = next_line_;
        continue;
      }
      field(index++, std::string_view(field_));
      if (ended_by_ != separator_) return index;
    }
  }

  /// "data.csv: line 3"
  [[nodiscard]] std::string where() const { return fmt::format("{}: line {}", path_, line_); }

 private:
  static constexpr int kEnd = -1;

  int peek() {
    if (next_ == size_) {
      size_ = stream_.read_some(buffer_);
      next_ = 0;
      if (size_ == 0) return kEnd;
    }
    return std::to_integer<unsigned char>(buffer_[next_]);
  }

  int take() {
    const int c = peek();
    if (c != kEnd) ++next_;
    return c;
  }

  void append(int c) {
    if (field_.size() == kMaxField) {
      throw Error(fmt::format("a field is longer than {} bytes", kMaxField))
          .at(where())
          .hint("is it text at all?");
    }
    field_ += static_cast<char>(c);
  }

  // Reads up to and with the next separator, line end or end of file, which goes to ended_by_. Returns
  // whether the field was quoted.
  bool read_field() {
    field_.clear();
    if (std::exchange(at_start_, false)) skip_byte_order_mark();
    if (peek() == '"') {
      take();
      read_quoted();
      return true;
    }
    for (;;) {
      const int c = take();
      if (ends_field(c)) return false;
      append(c);
    }
  }

  void read_quoted() {
    for (;;) {
      const int c = take();
      if (c == kEnd) throw Error("a quoted field has no end").at(where());
      if (c == '\n') ++next_line_;
      if (c != '"') {
        append(c);
      } else if (peek() == '"') {
        append(take());
      } else if (ends_field(take())) {
        return;
      } else {
        throw Error("text follows the end of a quoted field").at(where());
      }
    }
  }

  bool ends_field(int c) {
    if (c == '\r' && peek() == '\n') c = take();
    if (c == '\n') ++next_line_;
    ended_by_ = c;
    return c == kEnd || c == '\n' || c == static_cast<unsigned char>(separator_);
  }

  void skip_byte_order_mark() {
    static constexpr std::string_view mark = "\xEF\xBB\xBF";
    peek();
    if (size_ < mark.size()) return;
    if (std::string_view(reinterpret_cast<const char*>(buffer_.data()), mark.size()) == mark)
      next_ = mark.size();
  }

  ByteStream stream_;
  std::string path_;
  char separator_;
  std::vector<std::byte> buffer_;
  std::size_t next_ = 0, size_ = 0;  // in the buffer
  std::string field_;
  int ended_by_ = kEnd;
  bool at_start_ = true;
  std::int64_t line_ = 1;       // where the record begins
  std::int64_t next_line_ = 1;  // where the parser is
};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string shown(std::string_view text) {
  std::string safe;
  for (const char c : text.substr(0, kMaxShown)) safe += c >= ' ' && c != '\x7F' ? c : '?';
  return "'" + safe + (text.size() > kMaxShown ? "...'" : "'");
}

/// Nothing when the text is no number that a float can hold.
std::optional<double> to_number(std::string_view text) {
  auto number = trimmed(text);
  if (number.starts_with('+') && !number.starts_with("+-")) number.remove_prefix(1);
  double value = 0;
  const auto [rest, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  const bool is_whole = rest == number.data() + number.size() && !number.empty();
  // Out of range is also a number too small to be told from zero.
  const bool is_tiny = error == std::errc::result_out_of_range && is_whole && std::fabs(value) < 1;
  if (!is_whole || (error != std::errc{} && !is_tiny) || !std::isfinite(static_cast<float>(value))) {
    return std::nullopt;
  }
  return value;
}

Error not_a_number(std::string_view text, const std::string& column, const CsvParser& parser) {
  return Error("no finite number").at(fmt::format("{}, {}", parser.where(), column)).got(shown(text));
}

double parse_number(std::string_view text, const std::string& column, const CsvParser& parser) {
  const auto value = to_number(text);
  if (!value) throw not_a_number(text, column, parser);
  return *value;
}

std::int32_t parse_label(std::string_view text, const std::string& column, const CsvParser& parser) {
  const double value = parse_number(text, column, parser);
  if (value < 0 || value > std::numeric_limits<std::int32_t>::max() || value != std::floor(value)) {
    throw Error("a label must be a whole number of at least 0")
        .at(fmt::format("{}, {}", parser.where(), column))
        .got(shown(text));
  }
  return static_cast<std::int32_t>(value);
}

class CsvSource : public SampleSource {
 public:
  CsvSource(fs::path path, CsvOptions options) : path_(std::move(path)), options_(std::move(options)) {
    require_extents(options_.shape, path_.string());
    CsvParser parser(path_, options_.separator);
    if (options_.header) read_names(parser);
    // A header shows at once, and not only when the rows are read.
    const auto look = [&](std::size_t index, std::string_view text) {
      if (columns_ != 0 || to_number(text)) return;
      throw not_a_number(text, column_name(index), parser)
          .hint("if the first line is a header, set `header = true`");
    };
    while (const auto fields = parser.record(look)) {
      if (columns_ == 0) columns_ = fields;
      require_columns(fields, parser);
      ++info_.samples;
    }
    if (info_.samples == 0) throw Error("the file holds no rows").at(path_.string());
    const bool labelled = !options_.label.empty();
    info_.labels_per_sample = labelled ? 1 : 0;
    label_ = labelled ? find_label() : columns_;
    const auto features = static_cast<std::int64_t>(columns_) - info_.labels_per_sample;
    info_.shape = options_.shape.rank() == 0 ? Shape{features} : options_.shape;
    if (features < 1 || info_.shape.elements() != features) {
      throw Error("the columns do not make a sample")
          .at(path_.string())
          .expected(fmt::format("{} beside a label, for shape {}",
                                std::max<std::int64_t>(info_.shape.elements(), 1), info_.shape.str()))
          .got(std::to_string(features));
    }
  }

  [[nodiscard]] const SampleInfo& info() const override { return info_; }

  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    require_room(info_, samples, labels);
    CsvParser parser(path_, options_.separator);
    if (options_.header) parser.record([](std::size_t, std::string_view) {});
    auto* next = samples.data();
    for (std::size_t row = 0; row < static_cast<std::size_t>(info_.samples); ++row) {
      const auto fields = parser.record([&](std::size_t index, std::string_view text) {
        if (index == label_ && index < columns_) {
          labels[row] = parse_label(text, column_name(index), parser);
        } else if (index < columns_) {
          const auto value = static_cast<float>(parse_number(text, column_name(index), parser));
          std::memcpy(next, &value, sizeof value);
          next += sizeof value;
        }
      });
      require_columns(fields, parser);
    }
    if (parser.record([](std::size_t, std::string_view) {}) != 0) {
      throw Error("the file has grown since it was opened").at(path_.string());
    }
  }

 private:
  void read_names(CsvParser& parser) {
    columns_ = parser.record([&](std::size_t, std::string_view text) { names_.emplace_back(trimmed(text)); });
    if (columns_ == 0) throw Error("the file is empty").at(path_.string());
  }

  void require_columns(std::size_t fields, const CsvParser& parser) const {
    if (fields == columns_) return;
    throw Error(fields < columns_ ? "too few fields" : "too many fields")
        .at(parser.where())
        .expected(std::to_string(columns_))
        .got(std::to_string(fields))
        .hint("all rows must have as many fields as the first");
  }

  // For messages: a column's name, where there is one, and its number.
  [[nodiscard]] std::string column_name(std::size_t index) const {
    return index < names_.size() ? fmt::format("column {} '{}'", index, names_[index])
                                 : fmt::format("column {}", index);
  }

  [[nodiscard]] std::size_t find_label() const {
    const auto named = std::find(names_.begin(), names_.end(), options_.label);
    if (named != names_.end()) return static_cast<std::size_t>(named - names_.begin());
    const std::string_view text = options_.label;
    const auto count = static_cast<std::int64_t>(columns_);
    std::int64_t index = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool is_number = error == std::errc{} && rest == text.data() + text.size();
    if (!is_number || index < -count || index >= count) {
      throw Error("there is no such label column")
          .at(path_.string())
          .expected(names_.empty()
                        ? fmt::format("a number from {} to {}", -count, count - 1)
                        : fmt::format("one of {}, or a number from {} to {}",
                                      shown(fmt::format("{}", fmt::join(names_, ", "))), -count, count - 1))
          .got("'" + options_.label + "'");
    }
    return static_cast<std::size_t>(index < 0 ? index + count : index);
  }

  fs::path path_;
  CsvOptions options_;
  std::vector<std::string> names_;
  std::size_t columns_ = 0;
  std::size_t label_ = 0;  // columns_ when there is none
  SampleInfo info_;
};

class Csv final : public DataFormat {
 public:
  Csv(Settings& settings, const PathResolver& resolve)
      : file_(require_file(settings, "file", resolve, "the file")) {
    options_.label = "-1";
    settings.read("header", options_.header, "the first line has the columns' names");
    settings.read_name_or_number(
        "label", options_.label,
        "column of the labels, by name or from 0, negative from the end; empty: none");
    std::string separator(1, options_.separator);
    settings.read("separator", separator, "one character");
    if (separator.size() == 1) {
      options_.separator = separator.front();
    } else {
      settings.problem("separator", "expected one character, got \"" + separator + "\"");
    }
    read_shape(settings, options_.shape);
  }

  [[nodiscard]] DataTraits traits() const override { return {.labels = !options_.label.empty()}; }
  [[nodiscard]] std::vector<fs::path> files() const override { return {file_}; }

 private:
  [[nodiscard]] std::unique_ptr<SampleSource> open_source() const override {
    return open_csv(file_, options_);
  }

  fs::path file_;
  CsvOptions options_;
};

}  // namespace

std::unique_ptr<SampleSource> open_csv(const fs::path& file, const CsvOptions& options) {
  return std::make_unique<CsvSource>(file, options);
}

DataFormatPtr make_csv(Settings& settings, const PathResolver& resolve) {
  return std::make_shared<Csv>(settings, resolve);
}

}  // namespace impart::io
