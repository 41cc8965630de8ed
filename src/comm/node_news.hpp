// NodeNews: exchanges the boards of the nodes between their first ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/board.hpp"
#include "impart/comm/comm.hpp"

namespace impart::comm {

/// Used by one thread, the watchdog's, whatever the others do: MPI must grant MPI_THREAD_MULTIPLE, otherwise
/// nothing is exchanged. Ranks that are not the first of their node send and receive nothing.
class NodeNews {
 public:
  NodeNews(const Comm& world, const Comm& node);  ///< collective
  NodeNews(const NodeNews&) = delete;
  NodeNews& operator=(const NodeNews&) = delete;
  ~NodeNews();  ///< collective, unless an exception is in flight

  /// The first exchange, which waits, so that every rank is known. Collective.
  void meet(const std::vector<RankStatus>& here);
  /// Sends `here` to the other nodes, unless they still owe the last message, and returns what they said
  /// last. Never waits.
  std::vector<RankStatus> exchange(const std::vector<RankStatus>& here);

 private:
  struct Peer {
    int rank = 0;
    MPI_Request send = MPI_REQUEST_NULL;
    MPI_Request receive = MPI_REQUEST_NULL;
    std::vector<RankStatus> outgoing;
    std::vector<RankStatus> incoming;
    std::vector<RankStatus> known;
    std::uint64_t heard = 0;
  };

  void send(Peer& peer, const std::vector<RankStatus>& places) const;
  void post_receive(Peer& peer) const;
  void take(Peer& peer) const;
  static int hear(Peer& peer, const MPI_Status& status);

  Comm leaders_;
  std::size_t largest_;  // number of ranks on one node
  std::vector<Peer> peers_;
  int looks_ = 0;
};

}  // namespace impart::comm
