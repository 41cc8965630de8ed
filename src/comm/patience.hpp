// Patience: how to wait for another process or thread that will soon be ready.
#pragma once

#include <cstddef>
#include <thread>

namespace impart::comm {

/// So many tries take about as long as a message between cores; none where those who wait may need the core.
inline int spins_for(std::size_t waiting_together) {
  return waiting_together > std::thread::hardware_concurrency() ? 0 : 2000;
}

/// Tries at once for a while, and then gives the core to others in between.
class Patience {
 public:
  explicit Patience(int spins) : left_(spins) {}
  void wait() {
    if (left_ > 0) {
      --left_;
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();
    }
  }

 private:
  int left_;
};

}  // namespace impart::comm
