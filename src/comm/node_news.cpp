#include "comm/node_news.hpp"

#include <exception>

namespace impart::comm {

namespace {

constexpr int kPeersAtOnce = 16;  // with more nodes news are rarer, so that they stay a trickle

int bytes_of(std::size_t statuses) { return static_cast<int>(statuses * sizeof(RankStatus)); }

}  // namespace

NodeNews::NodeNews(const Comm& world, const Comm& node)
    : leaders_(world.split(node.is_root() ? 0 : 1, world.rank())) {
  int largest = node.size();
  world.max_in_place(std::span(&largest, 1), "node sizes");
  largest_ = static_cast<std::size_t>(largest);
  int level = MPI_THREAD_SINGLE;
  MPI_Query_thread(&level);
  if (!node.is_root() || level < MPI_THREAD_MULTIPLE) return;
  for (int rank = 0; rank < leaders_.size(); ++rank) {
    if (rank == leaders_.rank()) continue;
    peers_.emplace_back().rank = rank;
    peers_.back().heard = now_ns();
  }
  for (auto& peer : peers_) post_receive(peer);
}

// Each says goodbye by a message without statuses, and hears the others out.
NodeNews::~NodeNews() {
  if (std::uncaught_exceptions() > 0) return;
  for (auto& peer : peers_) {
    MPI_Wait(&peer.send, MPI_STATUS_IGNORE);
    send(peer, {});
  }
  for (auto& peer : peers_) {
    MPI_Wait(&peer.send, MPI_STATUS_IGNORE);
    for (MPI_Status status; peer.receive != MPI_REQUEST_NULL;) {
      MPI_Wait(&peer.receive, &status);
      if (hear(peer, status) > 0) post_receive(peer);
    }
  }
}

void NodeNews::meet(const std::vector<RankStatus>& here) {
  for (auto& peer : peers_) send(peer, here);
  for (auto& peer : peers_) {
    MPI_Status status;
    MPI_Wait(&peer.receive, &status);
    hear(peer, status);
    post_receive(peer);
  }
}

std::vector<RankStatus> NodeNews::exchange(const std::vector<RankStatus>& here) {
  std::vector<RankStatus> elsewhere;
  const bool speaks = looks_++ % (1 + leaders_.size() / kPeersAtOnce) == 0;
  for (auto& peer : peers_) {
    int done = 1;
    if (speaks) MPI_Test(&peer.send, &done, MPI_STATUS_IGNORE);
    if (speaks && done != 0) send(peer, here);
    take(peer);
    const auto age = static_cast<double>(now_ns() - peer.heard) * 1e-9;
    for (auto status : peer.known) {
      status.silent += age;
      status.waited += age;
      elsewhere.push_back(status);
    }
  }
  return elsewhere;
}

void NodeNews::send(Peer& peer, const std::vector<RankStatus>& statuses) const {
  peer.outgoing = statuses;
  MPI_Isend(peer.outgoing.data(), bytes_of(statuses.size()), MPI_BYTE, peer.rank, 0, leaders_.mpi(),
            &peer.send);
}

void NodeNews::post_receive(Peer& peer) const {
  peer.incoming.resize(largest_);
  MPI_Irecv(peer.incoming.data(), bytes_of(largest_), MPI_BYTE, peer.rank, 0, leaders_.mpi(), &peer.receive);
}

// All that has come. A goodbye is the last.
void NodeNews::take(Peer& peer) const {
  while (peer.receive != MPI_REQUEST_NULL) {
    int done = 0;
    MPI_Status status;
    MPI_Test(&peer.receive, &done, &status);
    if (done == 0) return;
    if (hear(peer, status) > 0) post_receive(peer);
  }
}

// Returns the message's bytes.
int NodeNews::hear(Peer& peer, const MPI_Status& status) {
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  peer.incoming.resize(static_cast<std::size_t>(bytes) / sizeof(RankStatus));
  peer.known = peer.incoming;
  peer.heard = now_ns();
  return bytes;
}

}  // namespace impart::comm
