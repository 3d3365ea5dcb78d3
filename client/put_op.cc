#include "client/put_op.h"

#include <algorithm>
#include <string>

#include "base/crc32c.h"
#include "client/operations.h"

namespace terrace {
namespace {

constexpr uint64_t kSourceBytes = kMiB;  // announce this much at a time: the node reads meanwhile

/// The memory of `map`, by region and offset, neighbours and overlaps merged.
std::vector<RemoteSpan> places_of(const FragmentMap& map) {
  std::vector<RemoteSpan> places;
  for (const ByteRange& run : map.runs()) map.locate(run, FragmentMap::kNoLimit, &places);
  std::sort(places.begin(), places.end(), [](const RemoteSpan& a, const RemoteSpan& b) {
    return a.region != b.region ? a.region < b.region : a.offset < b.offset;
  });
  std::vector<RemoteSpan> merged;
  for (const RemoteSpan& place : places) {
    if (!merged.empty() && merged.back().region == place.region &&
        merged.back().offset + merged.back().length >= place.offset) {
      const uint64_t end =
          std::max(merged.back().offset + merged.back().length, place.offset + place.length);
      merged.back().length = end - merged.back().offset;
    } else {
      merged.push_back(place);
    }
  }
  return merged;
}

bool inside(const std::vector<RemoteSpan>& places, const RemoteSpan& span) {
  auto after = std::upper_bound(
      places.begin(), places.end(), span, [](const RemoteSpan& wanted, const RemoteSpan& place) {
        return wanted.region != place.region ? wanted.region < place.region
                                             : wanted.offset < place.offset;
      });
  if (after == places.begin()) return false;
  const RemoteSpan& place = *std::prev(after);
  return place.region == span.region && span.length <= place.length &&
         span.offset - place.offset <= place.length - span.length;
}
}  // namespace

ClientPut::ClientPut(Parts parts) : parts_(std::move(parts)), states_(parts_.items.size()) {
  for (size_t i = 0; i < states_.size(); ++i) {
    State& state = states_[i];
    state.places = places_of(parts_.items[i].map);  // sorting takes long: not on the loop
    uint64_t at = 0;
    for (const SectionSpec& section : parts_.items[i].sections) {
      state.starts.push_back(at);
      at += section.bytes;
    }
    state.announced.assign(state.starts.size(), parts_.sources_ready);
    if (parts_.sources_ready) {
      state.to_hash.push_back({0, static_cast<uint32_t>(state.starts.size())});
    }
  }
}

ClientPut::~ClientPut() {
  TERRACE_CHECK(on_wire_ == 0);
}

Status ClientPut::on_start(uint32_t ns) {
  ns_ = ns;
  pump();
  return ok_status();
}

void ClientPut::pump() {
  while (!ending() && started() && next_ < states_.size() && on_wire_ < kItemsOnTheWire) {
    if (!operations()->take_put_credit(*this)) return;  // on_credit() goes on
    ++on_wire_;
    const Status asked = ask(next_++);
    if (!asked.ok()) return end_later(asked);
  }
}

Status ClientPut::ask(uint32_t index) {
  State& state = states_[index];
  state.phase = State::Phase::asked;
  state.tag = open_tag(index, true);
  proto::PutRequest& request = *parts_.items[index].request;
  request.set_namespace_id(ns_);
  request.set_deadline_ms(deadline_ms());
  request.set_priority(static_cast<uint32_t>(head.priority));
  const Status sent = operations()->send(head.node, MessageKind::put_request, state.tag, request);
  parts_.items[index].request.reset();
  return sent;
}

void ClientPut::on_message(uint32_t index, const Message& message) {
  State& state = states_[index];
  if (ending() || state.phase == State::Phase::settled) return;
  proto::PutAdmission admission;  // PutReply has the same fields
  const auto size = static_cast<int>(message.body.size());
  const auto kind = static_cast<MessageKind>(message.kind);
  const bool expected =
      (kind == MessageKind::put_admission && state.phase == State::Phase::asked) ||
      (kind == MessageKind::put_reply && state.phase == State::Phase::admitted);
  if (!expected || !admission.ParseFromArray(message.body.data(), size)) {
    return end_later(error(StatusCode::kInternal, "node answered a put with message kind " +
                                                      std::to_string(message.kind) + " of " +
                                                      std::to_string(size) +
                                                      " bytes, which does not belong here"));
  }
  const StatusCode code = status_code_of(admission.outcome().code());
  if (kind == MessageKind::put_admission && code == StatusCode::kOk) return admitted(index);
  settle(index, code == StatusCode::kOk ? ok_status()
                                        : error(code, "node: " + admission.outcome().message()));
}

void ClientPut::admitted(uint32_t index) {
  states_[index].phase = State::Phase::admitted;
  if (states_[index].to_hash.empty()) return;
  hashing_.push_back(index);
  operations()->schedule_slices(head.id);
}

void ClientPut::source_ready(uint32_t item, uint32_t first, uint32_t count) {
  State& state = states_[item];
  if (ending() || state.phase == State::Phase::settled) return;
  for (uint32_t s = first; s < first + count; ++s) {
    if (state.announced[s]) continue;  // said before, or ready from the start
    state.announced[s] = true;
    SectionRange* const last = state.to_hash.empty() ? nullptr : &state.to_hash.back();
    if (last != nullptr && last->first + last->count == s) {
      ++last->count;
    } else {
      state.to_hash.push_back({s, 1});
    }
  }
  if (state.phase != State::Phase::admitted || state.to_hash.empty()) return;
  if (std::find(hashing_.begin(), hashing_.end(), item) == hashing_.end()) {
    hashing_.push_back(item);
  }
  operations()->schedule_slices(head.id);
}

Status ClientPut::accept_read(uint32_t index, std::span<const RemoteSpan> spans) {
  const State& state = states_[index];
  if (ending() || state.phase != State::Phase::admitted) {
    return error(StatusCode::kCancelled, "this put has ended, or was not admitted");
  }
  for (const RemoteSpan& span : spans) {
    if (inside(state.places, span)) continue;
    return error(StatusCode::kPermissionDenied,
                 std::to_string(span.length) + " bytes at " + std::to_string(span.offset) +
                     " of region " + std::to_string(static_cast<uint64_t>(span.region)) +
                     " are not in the put's fragments");
  }
  return ok_status();
}

bool ClientPut::slice() {
  uint64_t budget = kSliceBytes;
  while (!ending() && !hashing_.empty() && budget > 0) {
    const uint32_t index = hashing_.front();
    hashing_.pop_front();
    if (states_[index].phase != State::Phase::admitted) continue;
    const uint64_t done = hash(index, budget);
    budget -= std::min(budget, done);
    if (done > 0 && !states_[index].to_hash.empty()) hashing_.push_front(index);
  }
  return !ending() && !hashing_.empty();
}

uint64_t ClientPut::hash(uint32_t index, uint64_t budget) {
  const Item& item = parts_.items[index];
  State& state = states_[index];
  uint64_t done = 0;
  while (!state.to_hash.empty() && done < budget) {
    const uint32_t section = state.to_hash.front().first + state.hashed;
    const uint64_t section_bytes = item.sections[section].bytes;
    const uint64_t bytes = std::min<uint64_t>(kCrcUnitBytes, section_bytes - state.at);
    std::vector<std::span<const std::byte>> pieces;
    gather(item.map, {state.starts[section] + state.at, bytes}, parts_.memory, &pieces);
    const uint32_t seed =
        unit_crc_seed(item.key, section, static_cast<uint32_t>(state.at / kCrcUnitBytes));
    state.crcs.push_back(PieceReader(pieces).crc_of_next(bytes, seed));
    done += bytes;
    state.at += bytes;
    if (state.at == section_bytes && !section_done(index)) return 0;
  }
  return done;
}

/// False when the source could not be sent: the operation is ending.
bool ClientPut::section_done(uint32_t index) {
  State& state = states_[index];
  const SectionRange range = state.to_hash.front();
  state.unsent_bytes += state.at;
  state.at = 0;
  ++state.hashed;
  const bool range_done = state.hashed == range.count;
  if (!range_done && state.unsent_bytes < kSourceBytes) return true;
  const Status sent = send_source(index);
  if (!sent.ok()) {
    end_later(sent);
    return false;
  }
  if (range_done) {
    state.to_hash.pop_front();
    state.hashed = state.sent = 0;
  }
  return true;
}

Status ClientPut::send_source(uint32_t index) {
  State& state = states_[index];
  proto::PutSource source;
  source.set_first(state.to_hash.front().first + state.sent);
  source.set_count(state.hashed - state.sent);
  source.set_crcs(pack_words(state.crcs));
  state.sent = state.hashed;
  state.unsent_bytes = 0;
  state.crcs.clear();
  return operations()->send(head.node, MessageKind::put_source, state.tag, source);
}

void ClientPut::settle(uint32_t index, const Status& outcome) {
  State& state = states_[index];
  // A put that failed half way may still be read from; one that was never admitted cannot.
  const bool may_be_read = state.phase == State::Phase::admitted && !outcome.ok();
  state.phase = State::Phase::settled;
  state.places = {};
  state.code = outcome.code();
  ++settled_;
  --on_wire_;
  operations()->give_put_credit(head.node);
  if (!outcome.ok() && outcome.code() != StatusCode::kAlreadyExists) {
    first_error_.update(error(outcome.code(), "item " + std::to_string(index) + " of " +
                                                  std::to_string(states_.size()) + ": " +
                                                  outcome.message()));
  }
  close_tag(state.tag);
  if (may_be_read) quiesce(state.tag);
  pump();
  finish_when_settled();
}

void ClientPut::finish_when_settled() {
  if (!ending() && settled_ == states_.size() && !quiescing()) finish(ok_status());
}

void ClientPut::fill(const Status& why, Completion* completion) {
  ClientCounters& counters = *operations()->counters();
  completion->status = first_error_;
  completion->status.update(why);
  for (size_t i = 0; i < states_.size(); ++i) {
    State& state = states_[i];
    if (state.phase != State::Phase::settled) state.code = why.code();
    completion->key_codes.push_back(state.code);
    if (state.code == StatusCode::kAlreadyExists) counters.puts_deduplicated.add();
    if (state.code == StatusCode::kOk) completion->bytes += parts_.items[i].map.bytes();
  }
  counters.bytes_stored.add(completion->bytes);
  for (; on_wire_ > 0; --on_wire_) operations()->give_put_credit(head.node);
}
}  // namespace terrace
