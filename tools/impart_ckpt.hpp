// The commands of impart-ckpt. Each prints to standard output and returns the exit code.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace impart::tool {

namespace fs = std::filesystem;

/// As the user gave them: how many there are has been checked.
struct Arguments {
  std::vector<fs::path> files;
  bool json = false;
};

int info(const Arguments& arguments);
int list(const Arguments& arguments);
int stats(const Arguments& arguments);
int diff(const Arguments& arguments);
int verify(const Arguments& arguments);
int lineage(const Arguments& arguments);

/// The stage that made a checkpoint, in words: "teacher (train)"; "unknown" when its record says nothing.
std::string stage_text(const std::string& stage_json);

/// The first digits of a digest, as many as tell models apart.
std::string short_digest(const std::string& digest);

}  // namespace impart::tool
