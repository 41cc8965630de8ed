#include "stages/augment_settings.hpp"

#include <fmt/format.h>

namespace impart::stages {

namespace {

using data::AugmentKind;
using data::PaddingMode;

void read_padding_mode(Settings& table, PaddingMode& mode) {
  table.choose("padding_mode", mode,
               {{"constant", PaddingMode::kConstant},
                {"edge", PaddingMode::kEdge},
                {"reflect", PaddingMode::kReflect}},
               "");
}

void read_kind(Settings& table, data::Augmentation& made) {
  switch (made.kind) {
    case AugmentKind::kFlip:
      made.probability = 0.5;
      table.choose("direction", made.vertical, {{"horizontal", false}, {"vertical", true}}, "");
      break;
    case AugmentKind::kCrop:
      table.read("padding", made.padding, at_least(0), "");
      read_padding_mode(table, made.padding_mode);
      table.read("fill", made.fill, any_number(), "");
      break;
    case AugmentKind::kRotate:
      table.read("degrees", made.degrees, between(0, 180), "");
      table.read("fill", made.fill, any_number(), "");
      break;
    case AugmentKind::kShift:
      table.read("translate", made.translate, Range{.low = 0, .high = 1, .high_open = true}, "");
      read_padding_mode(table, made.padding_mode);
      table.read("fill", made.fill, any_number(), "");
      break;
    case AugmentKind::kCutout:
      table.read("size", made.size, at_least(1), "");
      table.read("holes", made.holes, between(1, 1000), "");
      table.read("fill", made.fill, any_number(), "");
      break;
    case AugmentKind::kNoise:
      table.read("deviation", made.deviation, at_least(0), "");
      break;
    case AugmentKind::kMixup:
      made.alpha = 0.2;
      table.read("alpha", made.alpha, above(0), "");
      break;
    case AugmentKind::kCutmix:
      table.read("alpha", made.alpha, above(0), "");
      break;
  }
  table.read("probability", made.probability, between(0, 1), "");
}

}  // namespace

std::vector<data::Augmentation> read_augment(Settings& table) {
  std::vector<data::Augmentation> list;
  for (auto& inner : table.tables("augment")) {
    if (!inner.has("kind")) inner.missing("kind");
    std::size_t kind = 0;
    if (!inner.choose_word("kind", kind, data::augment_words(), "") || !inner.has("kind")) continue;
    data::Augmentation made;
    made.kind = static_cast<AugmentKind>(kind);
    read_kind(inner, made);
    inner.finish();
    list.push_back(made);
  }
  return list;
}

}  // namespace impart::stages
