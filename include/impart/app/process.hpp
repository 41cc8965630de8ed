// What a rank knows of its process: the signals that stop it, and the cores that it may use.
#pragma once

#include <atomic>
#include <string>

#include "impart/comm/comm.hpp"

namespace impart::app {

/// From now on, SIGTERM, SIGINT and SIGUSR1 set the returned flag instead of ending the process; a second
/// SIGINT ends it at once. (mpirun answers SIGTERM and SIGINT by killing its ranks a second later and loses
/// their exit code; SIGUSR1 it passes on.)
const std::atomic<bool>& stop_on_signals();

/// Readies this process for its cores, keeps the kernels of all ranks to the lowest instruction set among
/// them, and returns the number of threads that its rank may use: `threads`, or if that is 0, the cores in
/// its affinity mask, shared out among the ranks of this node whose masks overlap with it (at least 1; two
/// hardware threads of one core count as one). Each thread runs shards of its own, so the kernels in it get
/// no threads. Warns, once for all ranks, where threads outnumber cores. Collective.
int use_cores(const comm::Comm& comm, int threads);

/// What a rank has of its node, in cores: two hardware threads of one count as one.
struct Cores {
  int mine = 1;     ///< in the rank's affinity mask
  int sharing = 1;  ///< ranks of this node, this one too, whose masks overlap with it
  int ranks = 1;    ///< of this node
  int of_node = 1;  ///< all
};

/// A line that says so and what to do, when ranks of so many threads have too few cores; else empty.
std::string too_few_cores(const Cores& cores, int threads);

/// The largest amount of memory that this process has had, in MB.
double peak_memory_mb();

}  // namespace impart::app
