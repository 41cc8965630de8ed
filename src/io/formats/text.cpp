#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "impart/core/error.hpp"
#include "io/byte_stream.hpp"
#include "io/formats/formats.hpp"
#include "io/samples.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBytes = 256;  // that there are

/// Calls `each` with one block of the file after another.
template <class Each>
void for_each_block(const fs::path& path, const Each& each) {
  ByteStream stream(path);
  std::vector<std::byte> block(256 * 1024);
  while (const auto got = stream.read_some(block)) each(std::span(block).first(got));
}

struct Census {
  std::int64_t characters = 0;
  std::array<bool, kBytes> present{};
};

Census take_census(const fs::path& path) {
  Census census;
  for_each_block(path, [&](std::span<const std::byte> block) {
    census.characters += static_cast<std::int64_t>(block.size());
    for (const auto byte : block) census.present[std::to_integer<std::size_t>(byte)] = true;
  });
  return census;
}

std::string in_words(std::size_t byte) {
  return std::isprint(static_cast<int>(byte)) != 0 ? fmt::format("'{}'", static_cast<char>(byte))
                                                   : fmt::format("byte 0x{:02x}", byte);
}

class TextSource final : public SampleSource {
 public:
  TextSource(fs::path path, const TextOptions& options)
      : path_(std::move(path)), stride_(options.stride == 0 ? options.context : options.stride) {
    const auto text = take_census(path_);
    if (options.context < 1 || stride_ < 1 || text.characters <= options.context) {
      throw Error("the text is too short for one sample")
          .at(path_.string())
          .expected(fmt::format("more than {} characters (`context`)", options.context))
          .got(std::to_string(text.characters));
    }
    const auto& vocabulary = options.vocabulary;
    const auto known = vocabulary.empty() ? text.present : take_census(vocabulary).present;
    for (std::size_t byte = 0; byte < kBytes; ++byte) {
      if (!known[byte] && text.present[byte]) {
        throw Error("the text has a character that its vocabulary does not have")
            .at(path_.string())
            .expected(fmt::format("one of those in {}", vocabulary.string()))
            .got(in_words(byte));
      }
      if (!known[byte]) continue;
      index_[byte] = static_cast<std::uint8_t>(info_.vocabulary.size());
      info_.vocabulary.push_back(static_cast<char>(byte));
    }
    info_.samples = (text.characters - 1 - options.context) / stride_ + 1;
    info_.shape = Shape{options.context};
    info_.element = ElementType::kUint8;
    info_.labels_per_sample = options.context;
  }

  [[nodiscard]] const SampleInfo& info() const override { return info_; }

  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    require_room(info_, samples, labels);
    // The text itself is held for a moment: a fifth of what its windows and their labels take.
    std::vector<std::byte> text;
    for_each_block(path_, [&](std::span<const std::byte> block) {
      for (const auto byte : block) text.push_back(std::byte{index_[std::to_integer<std::size_t>(byte)]});
    });
    const auto context = info_.shape[0];
    if (static_cast<std::int64_t>(text.size()) < (info_.samples - 1) * stride_ + context + 1) {
      throw Error("the text has become shorter while it was read").at(path_.string());
    }
    for (std::int64_t i = 0; i < info_.samples; ++i) {
      const auto* const window = text.data() + i * stride_;
      std::copy(window, window + context, samples.begin() + i * context);
      std::transform(window + 1, window + context + 1, labels.begin() + i * context,
                     [](std::byte index) { return std::to_integer<std::int32_t>(index); });
    }
  }

 private:
  fs::path path_;
  std::int64_t stride_;
  std::array<std::uint8_t, kBytes> index_{};  // by byte
  SampleInfo info_;
};

class Text final : public DataFormat {
 public:
  Text(Settings& settings, const PathResolver& resolve)
      : file_(require_file(settings, "file", resolve, "the file")) {
    const auto extent = between(1, 1 << 20).in("characters");
    settings.read("context", options_.context, extent, "of a sample");
    options_.stride = options_.context;
    settings.read("stride", options_.stride, extent,
                  "from one sample to the next; as `context` when it is not given: no overlap");
    options_.vocabulary = read_file(settings, "vocabulary", resolve,
                                    "a file whose characters are the vocabulary; empty: the text's own");
  }

  /// The windows of a text overlap, and what stands side by side is alike: what is not trained on must be
  /// text from elsewhere (as char-rnn and nanoGPT do).
  [[nodiscard]] DataTraits traits() const override {
    return {.text = true, .gap = options_.context / options_.stride};
  }
  [[nodiscard]] std::vector<fs::path> files() const override {
    return options_.vocabulary.empty() ? std::vector{file_} : std::vector{file_, options_.vocabulary};
  }

 private:
  [[nodiscard]] std::unique_ptr<SampleSource> open_source() const override {
    return open_text(file_, options_);
  }

  fs::path file_;
  TextOptions options_;
};

}  // namespace

std::unique_ptr<SampleSource> open_text(const fs::path& file, const TextOptions& options) {
  return std::make_unique<TextSource>(file, options);
}

DataFormatPtr make_text(Settings& settings, const PathResolver& resolve) {
  return std::make_shared<Text>(settings, resolve);
}

}  // namespace impart::io
