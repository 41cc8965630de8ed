// Watch: where every rank is, so that the one that keeps others waiting can be named.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "impart/comm/comm.hpp"
#include "impart/core/trace.hpp"

namespace impart::comm {

/// Where this rank is in its run, for the watchdog's messages. Any thread.
void enter_stage(std::string_view name);
void enter_step(std::int64_t step);

/// This rank waits for others of `comm` while it lives: around every MPI call that may wait, so that the
/// watchdog knows which ranks have arrived, and traces show it. All ranks of `comm` make the same calls in
/// the same order. `call` names it, and outlives it. Costs a few stores.
class Waiting {
 public:
  Waiting(const Comm& comm, const char* call);
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting();

 private:
  trace::Span span_;
  bool active_;
};

/// After how many seconds of waiting the watchdog speaks, and ends the job. 0: never.
struct StallLimits {
  double warning = 60;
  double abort = 1800;
};

/// A thread that looks once a second at what the ranks of its node do, and hears of the other nodes. When
/// this rank has waited too long, and is the lowest that waits, it names the ranks that have not arrived: one
/// line, said again each time the wait has doubled; in the end it aborts the job. The wait counts from when
/// one of those ranks last came a step on (`enter_step`): until then it worked. A rank that is stopped, dead,
/// or on a node that does not answer is recognised by its missing sign of life: after 2 s when it was last seen,
/// after 5 s that. Each is named with its process id and host.
///
/// One at a time. Ranks of other nodes are watched only where MPI grants MPI_THREAD_MULTIPLE.
class Watchdog {
 public:
  /// Collective. `node` are the ranks whose memory this rank shares; a test may make them fewer.
  Watchdog(const Comm& world, const Comm& node, StallLimits limits = {});
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();  ///< collective, unless an exception is in flight

  void set_limits(StallLimits limits);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::comm
