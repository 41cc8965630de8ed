// What a rank knows of its process: the signals that stop it, and the cores that it may use.
#pragma once

#include <atomic>

#include "impart/comm/comm.hpp"

namespace impart::stages {

/// From now on, SIGTERM and SIGINT set the returned flag instead of ending the process; a second SIGINT ends it at once.
const std::atomic<bool>& stop_on_signals();

/// Cores in this rank's affinity mask, shared out among the ranks of this node whose masks overlap with it; at least 1.
/// Two hardware threads of one core count as one. Collective.
int default_threads(const comm::Comm& comm);

/// The largest amount of memory that this process has had, in MB.
double peak_memory_mb();

}  // namespace impart::stages
