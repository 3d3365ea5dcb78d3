// How granted transfers become requests of a queue pair: straight from or into registered memory,
// or through a bounce buffer.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "transport/rdma_transfers.h"

namespace terrace {
namespace {

void copy_in(std::span<const iovec> from, std::span<std::byte> into) {
  for (const iovec& piece : from) {
    std::memcpy(into.data(), piece.iov_base, piece.iov_len);
    into = into.subspan(piece.iov_len);
  }
}
}  // namespace

bool RdmaTransfers::post_granted() {
  std::deque<uint64_t> waits;
  while (!to_post_.empty() && bounced_this_turn_ < shared_->options.turn_bytes_max) {
    const uint64_t id = to_post_.front();
    to_post_.pop_front();
    Transfer* transfer = find(id);
    if (transfer == nullptr) continue;
    if (transfer->state != State::granted && transfer->state != State::posted) continue;
    if (transfer->state == State::granted && !prepare(transfer)) {
      waits.push_back(id);
      continue;
    }
    const Posted posted = post(transfer);
    if (posted == Posted::waits) waits.push_back(id);
    if (posted == Posted::lane_failed) link_->reset_lane(transfer->path);
  }
  const bool more = !to_post_.empty();
  to_post_.insert(to_post_.begin(), waits.begin(), waits.end());
  return more;
}

bool RdmaTransfers::all_local(const Transfer& transfer, size_t device) const {
  return std::all_of(transfer.pieces.begin(), transfer.pieces.end(), [&](const iovec& piece) {
    auto rest = std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len);
    while (!rest.empty()) {
      const RdmaMemory::Local local = shared_->memory->find_local(device, rest);
      if (local.bytes == 0) return false;
      rest = rest.subspan(local.bytes);
    }
    return true;
  });
}

/// Where the bytes are posted from or to; false: no bounce buffer is free.
bool RdmaTransfers::prepare(Transfer* transfer) {
  if (!transfer->bounce.empty()) return true;  // granted again
  if (all_local(*transfer, transfer->path)) {
    transfer->from = transfer->pieces;
    return true;
  }
  transfer->bounce = shared_->memory->take_bounce(transfer->bytes);
  if (transfer->bounce.empty()) {
    shared_->bounce_wanted = true;
    return false;
  }
  if (transfer->is_write) copy_in(transfer->pieces, transfer->bounce);
  transfer->from = {{transfer->bounce.data(), transfer->bytes}};
  bounced_this_turn_ += transfer->bytes;
  shared_->metrics.bounced_bytes.add(transfer->bytes);
  return true;
}

/// Fills `into` with local pieces for at most `entry_left` bytes, and moves the cursor; the bytes.
uint32_t RdmaTransfers::gather(Transfer* transfer, size_t device, uint32_t entry_left,
                               std::span<ibv_sge> into, size_t* count) {
  uint32_t total = 0;
  for (*count = 0; *count < into.size() && total < entry_left;) {
    const iovec& piece = transfer->from[transfer->piece];
    const auto rest = std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len)
                          .subspan(transfer->piece_done);
    const RdmaMemory::Local local = shared_->memory->find_local(
        device, rest.first(std::min<size_t>(rest.size(), entry_left - total)));
    TERRACE_CHECK(local.bytes > 0);  // it was registered when it was prepared, and is borrowed
    into[(*count)++] = {.addr = reinterpret_cast<uint64_t>(rest.data()),
                        .length = static_cast<uint32_t>(local.bytes),
                        .lkey = local.key};
    total += static_cast<uint32_t>(local.bytes);
    transfer->piece_done += local.bytes;
    if (transfer->piece_done == piece.iov_len) {
      ++transfer->piece;
      transfer->piece_done = 0;
    }
  }
  return total;
}

RdmaTransfers::Posted RdmaTransfers::post(Transfer* transfer) {
  RdmaLane* lane = link_->data_lane(transfer->path);
  if (lane == nullptr) return Posted::waits;  // it went a moment ago, and the peer may go too
  std::array<ibv_sge, RdmaLane::kPiecesMax> places;
  while (transfer->entry < transfer->grant.size()) {
    if (lane->room() == 0) return Posted::waits;
    const RdmaGrantEntry& entry = transfer->grant[transfer->entry];
    ibv_send_wr request{};
    size_t count = 0;
    const uint32_t bytes =
        gather(transfer, transfer->path, entry.length - static_cast<uint32_t>(transfer->entry_done),
               std::span(places).first(lane->pieces_max()), &count);
    request.sg_list = places.data();
    request.num_sge = static_cast<int>(count);
    request.wr.rdma.remote_addr = entry.address + transfer->entry_done;
    request.wr.rdma.rkey = entry.key;
    transfer->entry_done += bytes;
    if (transfer->entry_done == entry.length) {
      ++transfer->entry;
      transfer->entry_done = 0;
    }
    const bool last = transfer->entry == transfer->grant.size();
    request.opcode = IBV_WR_RDMA_READ;
    if (transfer->is_write) {
      request.opcode = last ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE;
      request.imm_data = htobe32(static_cast<uint32_t>(transfer->id));
    }
    transfer->state = State::posted;
    if (!lane->post(&request, last, last ? transfer->id : 0).ok()) return Posted::lane_failed;
  }
  return Posted::all;
}
}  // namespace terrace
