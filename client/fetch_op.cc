#include "client/fetch_op.h"

#include <algorithm>
#include <string>

#include "client/operations.h"

namespace terrace {
namespace {

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
}  // namespace

Status ClientFetch::on_start(uint32_t ns) {
  proto::FetchRequest& request = *parts_.request;
  request.set_namespace_id(ns);
  request.set_lease(operations()->wire_of(parts_.lease, head.node));
  request.set_deadline_ms(deadline_ms());
  request.set_priority(static_cast<uint32_t>(head.priority));
  tag_ = open_tag(0, true);
  tell_layers();  // those of which nothing was asked for
  const Status sent = operations()->send(head.node, MessageKind::fetch_request, tag_, request);
  parts_.request.reset();  // large, and said once
  return sent;
}

void ClientFetch::refuse(Status why) {
  if (refused_) return;
  refused_ = true;
  end_later(std::move(why));
}

bool ClientFetch::accept_write(const IncomingWrite& write, std::vector<uint32_t>* crc_runs) {
  if (ending() || refused_) return false;
  if (replied_ && frames_accepted_ == reply_.frames()) {
    refuse(not_counted());
    return false;
  }
  const StatusOr<std::vector<Delivery>> deliveries = unpack_deliveries(text_of(write.body));
  const Status claimed =
      deliveries.ok()
          ? parts_.check->claim(*deliveries, write.targets)
          : error(StatusCode::kInternal,
                  "node sent a data frame that does not parse: " + deliveries.status().message());
  if (!claimed.ok()) {
    refuse(claimed);
    return false;
  }
  if (parts_.verify) DeliveryCheck::unit_lengths(*deliveries, crc_runs);
  ++frames_accepted_;
  return true;
}

void ClientFetch::on_write(const IncomingWrite& write) {
  if (ending() || refused_) return;
  const StatusOr<std::vector<Delivery>> deliveries = unpack_deliveries(text_of(write.body));
  TERRACE_CHECK(deliveries.ok());  // accept_write() saw the same bytes
  DeliveryCheck& check = *parts_.check;
  const uint64_t verified = check.bytes_verified();
  const uint64_t failures = check.crc_failures();
  check.landed(*deliveries, parts_.memory, parts_.verify, write.run_crcs);
  ClientCounters& counters = *operations()->counters();
  counters.bytes_verified.add(check.bytes_verified() - verified);
  counters.crc_failures.add(check.crc_failures() - failures);
  tell_layers();
  ++frames_landed_;
  finish_when_whole();
}

void ClientFetch::tell_layers() {
  if (parts_.check->layers_ready() == layers_told_) return;
  layers_told_ = parts_.check->layers_ready();
  operations()->set_layers(*this, layers_told_);
}

void ClientFetch::on_message(uint32_t, const Message& message) {
  if (ending() || refused_ || replied_) return;
  if (message.kind != static_cast<uint16_t>(MessageKind::fetch_reply) ||
      !reply_.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return refuse(error(StatusCode::kInternal, "node answered a fetch with message kind " +
                                                   std::to_string(message.kind) + " of " +
                                                   std::to_string(message.body.size()) + " bytes"));
  }
  const bool refusal = reply_.outcome().code() != 0 && reply_.codes().empty();
  if (!refusal && reply_.codes().size() != parts_.check->items()) {
    return refuse(error(StatusCode::kInternal,
                        "node answered with " + std::to_string(reply_.codes().size()) +
                            " codes for " + std::to_string(parts_.check->items()) + " keys"));
  }
  replied_ = true;
  finish_when_whole();
}

/// The reply counts fewer frames than we let in.
Status ClientFetch::not_counted() const {
  // Over RDMA a node that cuts a fetch short takes frames back that it had asked for.
  const StatusCode outcome = status_code_of(reply_.outcome().code());
  if (outcome != StatusCode::kOk) return error(outcome, "node: " + reply_.outcome().message());
  return error(StatusCode::kInternal,
               "node says it sent " + std::to_string(reply_.frames()) + " frames; more came");
}

void ClientFetch::finish_when_whole() {
  if (!replied_) return;
  // A frame that was let in may still be on its way into memory: only a quiesce makes that end.
  if (frames_accepted_ > reply_.frames()) return refuse(not_counted());
  if (frames_landed_ < reply_.frames()) return;
  close_tag(tag_);
  finish(ok_status());
}

StatusCode ClientFetch::code_of(size_t item, const Status& why) const {
  const DeliveryCheck& check = *parts_.check;
  if (check.failed(item)) return StatusCode::kDataLoss;
  // Every byte arrived and matched: nothing that happened to the others changes that.
  if (check.whole(item) && why.code() != StatusCode::kInternal) return StatusCode::kOk;
  if (!why.ok()) return why.code();
  StatusCode said = status_code_of(reply_.outcome().code());
  if (item < reply_.codes().size()) {
    said = status_code_of(static_cast<unsigned char>(reply_.codes()[item]));
  }
  return said == StatusCode::kOk ? StatusCode::kDataLoss : said;
}

void ClientFetch::fill(const Status& why, Completion* completion) {
  const DeliveryCheck& check = *parts_.check;
  const StatusCode outcome = status_code_of(reply_.outcome().code());
  completion->status = why;
  if (outcome != StatusCode::kOk) {
    completion->status.update(error(outcome, "node: " + reply_.outcome().message()));
  }
  for (size_t i = 0; i < check.items(); ++i) {
    const StatusCode code = code_of(i, why);
    completion->key_codes.push_back(code);
    if (code == StatusCode::kNotFound) operations()->counters()->misses.add();
    if (code == StatusCode::kOk || !completion->status.ok()) continue;
    completion->status =
        error(code, "key " + std::to_string(i) + " of " + std::to_string(check.items()) + " (" +
                        check.key(i).hex().substr(0, 16) + "...): " + name_of(code));
  }
  completion->bytes = check.bytes_good();
  operations()->counters()->bytes_fetched.add(completion->bytes);
  completion->tier_bytes = check.tier_bytes();
}
}  // namespace terrace
