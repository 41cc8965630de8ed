// Writes a checkpoint to the path that is given, for programs of others to read.
#include <cstdio>

#include "io/support.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    auto checkpoint = impart::io::sample_checkpoint();
    checkpoint.model.spec = R"({"note":")" + std::string(200'000, 'x') + R"("})";
    impart::io::write_checkpoint(argv[1], checkpoint);
    std::puts(checkpoint.digest.c_str());
  } catch (const impart::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
