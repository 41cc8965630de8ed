#include <fmt/format.h>

#include <set>
#include <system_error>

#include "impart/core/error.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart_ckpt.hpp"
#include "impart_ckpt_json.hpp"

namespace impart::tool {

namespace {

// Deeper chains are cut and said to be: a tree on the screen is no place for a thousand levels.
constexpr int kMaxDepth = 200;

// One artifact, as seen from the one that was made from it.
struct Node {
  fs::path path;
  std::string digest;  // recorded by its child, or its own
  std::string role;    // empty for the file that was asked for
  double weight = 1;
  std::string stage;
  std::string note;  // why nothing is known about its parents
  std::vector<io::DataRecord> data;
  std::vector<Node> parents;
};

class Tree {
 public:
  Node build(Node node, int depth = 0) {
    if (depth == kMaxDepth) {
      node.note = "deeper levels are left out";
      return node;
    }
    std::error_code missing;
    const auto real = fs::canonical(node.path, missing);
    if (missing) {
      node.note = "gone";
      return node;
    }
    io::CheckpointSummary summary;
    try {
      summary = io::read_summary(real);
    } catch (const Error& error) {
      if (depth == 0) throw;
      node.note = fmt::format("unreadable: {}", error.what());
      return node;
    }
    if (node.digest.empty()) node.digest = summary.digest;
    if (node.digest != summary.digest) {
      node.note = fmt::format("gone: this path now holds {}", short_digest(summary.digest));
      return node;
    }
    node.stage = stage_text(summary.lineage.stage);
    // Each file is followed once, so that neither a cycle nor many paths to one ancestor multiply the tree.
    if (!seen_.insert(real.string()).second) {
      node.note = "shown above";
      return node;
    }
    node.data = summary.lineage.data;
    for (const auto& parent : summary.lineage.parents) {
      Node child;
      child.path = (node.path.parent_path() / parent.path).lexically_normal();
      child.digest = parent.digest;
      child.role = parent.role;
      child.weight = parent.weight;
      node.parents.push_back(build(std::move(child), depth + 1));
    }
    return node;
  }

 private:
  std::set<std::string> seen_;
};

Json to_json(const Node& node) {
  Json json{{"path", node.path.string()}, {"digest", node.digest}};
  if (!node.role.empty()) {
    json["role"] = node.role;
    json["weight"] = node.weight;
  }
  if (!node.stage.empty()) json["stage"] = node.stage;
  if (!node.note.empty()) json["note"] = node.note;
  json["data"] = Json::array();
  for (const auto& set : node.data) {
    json["data"].push_back({{"name", set.name}, {"samples", set.samples}, {"fingerprint", set.fingerprint}});
  }
  json["parents"] = Json::array();
  for (const auto& parent : node.parents) json["parents"].push_back(to_json(parent));
  return json;
}

std::string line_of(const Node& node) {
  std::string line;
  if (!node.role.empty())
    line = node.weight == 1 ? node.role + ": " : fmt::format("{} {:.6g}: ", node.role, node.weight);
  line += fmt::format("{}  {}", node.path.string(), short_digest(node.digest));
  if (!node.stage.empty()) line += "  " + node.stage;
  if (!node.note.empty()) line += fmt::format("  [{}]", node.note);
  return line;
}

void print_below(const Node& node, const std::string& indent) {
  const auto count = node.data.size() + node.parents.size();
  std::size_t index = 0;
  for (const auto& set : node.data) {
    fmt::print("{}{} data: {}  {} samples\n", indent, ++index == count ? "└─" : "├─", set.name, set.samples);
  }
  for (const auto& parent : node.parents) {
    const bool is_last = ++index == count;
    fmt::print("{}{} {}\n", indent, is_last ? "└─" : "├─", line_of(parent));
    print_below(parent, indent + (is_last ? "   " : "│  "));
  }
}

}  // namespace

int lineage(const Arguments& arguments) {
  Node root;
  root.path = arguments.files.front();
  const auto tree = Tree().build(std::move(root));
  // A file that cannot be opened ends in the reader's own words.
  if (tree.digest.empty()) static_cast<void>(io::read_summary(arguments.files.front()));
  if (arguments.json) {
    print_json(to_json(tree));
  } else {
    fmt::print("{}\n", line_of(tree));
    print_below(tree, "");
  }
  return 0;
}

}  // namespace impart::tool
