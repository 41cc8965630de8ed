// The last rank throws where nobody expects it, while the others wait for it. MpiSession must end them all.

#include <cstdio>

#include "impart/comm/comm.hpp"
#include "impart/core/error.hpp"

int main(int argc, char** argv) {
  try {
    const impart::comm::MpiSession session(&argc, &argv);
    const auto world = impart::comm::Comm::world();
    if (world.rank() == world.size() - 1) throw impart::Error("lost");
    world.barrier();
    std::puts("passed the barrier");
  } catch (const impart::Error&) {
    std::puts("outlived the session");
  }
  return 0;
}
