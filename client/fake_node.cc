#include "client/fake_node.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "proto/request_places.h"

namespace terrace {
namespace {

/// Owns the bytes of one write until the transport is through with them.
struct Sending final : Op {
  void done(Status) override { delete this; }
  std::vector<std::byte> bytes;
};

struct Closed final : Op {
  explicit Closed(Loop* l) : loop(l) {}
  void done(Status) override { loop->stop(); }
  Loop* const loop;
};

constexpr uint64_t kFrameBytes = 128 * kKiB;
}  // namespace

struct FakeNode::Frame {
  Delivery delivery;
  std::vector<RemoteSpan> targets;
  std::vector<std::byte> bytes;
};

struct FakeNode::Put final : Op {
  Put(FakeNode* n, PeerId p, uint64_t t) : node(n), peer(p), tag(t) {}
  void done(Status result) override { node->put_done(this, std::move(result)); }
  FakeNode* const node;
  const PeerId peer;
  const uint64_t tag;
  ChunkKey key;
  FragmentMap map;
  std::vector<SectionSpec> sections;
  std::vector<std::vector<uint32_t>> crcs;  // by section
  uint32_t missing = 0;
  std::vector<std::byte> bytes;
  uint64_t at = 0;
  uint64_t reading = 0;
  bool busy = false;
  bool abandoned = false;
  void read_more();
};

FakeNode::FakeNode() {
  std::promise<void> ready;
  thread_ = std::thread([this, &ready] { run(&ready); });
  ready.get_future().wait();
}

FakeNode::~FakeNode() {
  Closed closed(loop_);
  on_loop([this, &closed] { transport_->close(&closed); });
  farewell_.set_value();
  thread_.join();
}

void FakeNode::run(std::promise<void>* ready) {
  auto loop = *Loop::create({}, &clock_);
  loop_ = loop.get();
  {
    TcpTransport transport(loop_, this, {});
    transport_ = &transport;
    port_ = *transport.listen("127.0.0.1:0", [](auto) { return true; });
    ready->set_value();
    loop->run();
    farewell_.get_future().wait();  // whoever posted last may still be waking the loop
    for (int i = 0; i < 64 && loop->turn(Nanos(0)) > 0; ++i) {
    }
  }
}

void FakeNode::on_loop(std::function<void()> work) {
  std::promise<void> done;
  const Status posted = loop_->post([&] {
    work();
    done.set_value();
  });
  TERRACE_CHECK(posted.ok());
  done.get_future().wait();
}

void FakeNode::set(Fault fault) {
  on_loop([this, fault] {
    fault_ = fault;
    if (fault == Fault::frozen) return;
    for (const Kept& kept : std::exchange(kept_, {})) {
      handle(kept.peer, kept.kind, kept.tag, kept.body);
    }
  });
}
void FakeNode::drop_peers() {
  on_loop([this] {
    for (const PeerId peer : peers_) transport_->close_peer(peer, StatusCode::kUnavailable);
  });
}
void FakeNode::add(const ChunkKey& key, std::vector<std::byte> bytes) {
  on_loop([&] { objects_[key] = std::move(bytes); });
}
std::vector<std::byte> FakeNode::get(const ChunkKey& key) {
  std::vector<std::byte> bytes;
  on_loop([&] { bytes = objects_[key]; });
  return bytes;
}
void FakeNode::set_section_bytes(uint64_t bytes) {
  on_loop([&] { section_bytes_ = bytes; });
}

void FakeNode::on_peer(PeerId peer, std::span<const std::byte, 16>) {
  peers_.insert(peer);
}
void FakeNode::on_peer_closed(PeerId peer, const Status&) {
  peers_.erase(peer);
  std::erase_if(kept_, [peer](const Kept& kept) { return kept.peer == peer; });
  std::erase_if(puts_, [peer](const auto& put) { return put.second->peer == peer; });
}

void FakeNode::on_message(PeerId peer, const Message& message) {
  const std::string body(reinterpret_cast<const char*>(message.body.data()), message.body.size());
  if (fault_ == Fault::frozen) {
    kept_.push_back({peer, message.kind, message.tag, body});
    return;
  }
  handle(peer, message.kind, message.tag, body);
}

void FakeNode::reply(PeerId peer, MessageKind kind, uint64_t tag, const std::string& body) {
  const std::string sent = fault_ == Fault::garbage ? std::string(9, '\xff') : body;
  const Status status = transport_->send_message(
      peer, {static_cast<uint16_t>(kind), tag, std::as_bytes(std::span(sent.data(), sent.size()))});
  (void)status;  // the client may be gone
}

void FakeNode::handle(PeerId peer, uint16_t kind, uint64_t tag, const std::string& body) {
  switch (static_cast<MessageKind>(kind)) {
    case MessageKind::fetch_request: {
      proto::FetchRequest request;
      TERRACE_CHECK(request.ParseFromString(body));
      return fetch(peer, tag, request);
    }
    case MessageKind::put_request: {
      proto::PutRequest request;
      TERRACE_CHECK(request.ParseFromString(body));
      return put(peer, tag, request);
    }
    case MessageKind::put_source: {
      proto::PutSource request;
      TERRACE_CHECK(request.ParseFromString(body));
      return source(tag, request);
    }
    case MessageKind::lookup_request:
      return lookup(peer, tag, body);
    case MessageKind::match_request:
      return match(peer, tag, body);
    case MessageKind::erase_request:
      return erase(peer, tag, body);
    case MessageKind::list_request:
      return list(peer, tag, body);
    case MessageKind::touch_keys: {
      proto::TouchKeys request;
      TERRACE_CHECK(request.ParseFromString(body));
      touched_ += static_cast<uint32_t>(view_keys(request.keys(), kKeysPerRequestMax)->size());
      return;
    }
    case MessageKind::release_lease:
      ++releases_;
      return;
    case MessageKind::cancel_request:
      ++cancels_;
      if (const auto found = puts_.find(tag); found != puts_.end()) {
        if (found->second->busy) {
          found->second->abandoned = true;
        } else {
          puts_.erase(found);
        }
      }
      return;
    default:
      return;
  }
}

std::vector<FakeNode::Frame> FakeNode::frames_of(const proto::FetchRequest& request,
                                                 std::string* codes) {
  std::vector<Frame> frames;
  RequestPlaces places = *RequestPlaces::create(request.pool());
  for (int i = 0; i < request.items_size(); ++i) {
    const ChunkKey key = (*view_keys(request.items(i).key(), 1))[0];
    const auto found = objects_.find(key);
    codes->push_back(
        static_cast<char>(found == objects_.end() ? StatusCode::kNotFound : StatusCode::kOk));
    if (found == objects_.end()) continue;
    const auto& object = found->second;
    const uint64_t section_bytes = section_bytes_ == 0 ? object.size() : section_bytes_;
    const FragmentMap map = *places.next(request.items(i).fragments(), request.items(i).blocks());
    for (const ByteRange& run : map.runs()) {
      for (uint64_t at = run.offset; at < std::min<uint64_t>(run.end(), object.size());) {
        const uint64_t section = at / section_bytes;
        const uint64_t start = section * section_bytes;
        const uint64_t end = std::min({run.end(), start + section_bytes, uint64_t{object.size()},
                                       start + ((at - start) / kFrameBytes + 1) * kFrameBytes});
        Frame frame;
        const uint64_t bytes = map.locate({at, end - at}, kFramesFragmentsMax, &frame.targets);
        frame.bytes.assign(object.begin() + static_cast<ptrdiff_t>(at),
                           object.begin() + static_cast<ptrdiff_t>(at + bytes));
        frame.delivery = {static_cast<uint32_t>(i),
                          static_cast<uint32_t>(section),
                          at - start,
                          at,
                          static_cast<uint32_t>(bytes),
                          Tier::dram,
                          {}};
        for (uint64_t done = 0; done < bytes;) {
          const uint64_t offset = at - start + done;
          const uint64_t n =
              std::min<uint64_t>(kCrcUnitBytes - offset % kCrcUnitBytes, bytes - done);
          frame.delivery.crcs.push_back(unit_crc(key, static_cast<uint32_t>(section),
                                                 static_cast<uint32_t>(offset / kCrcUnitBytes),
                                                 std::span(frame.bytes).subspan(done, n),
                                                 static_cast<uint32_t>(offset % kCrcUnitBytes)));
          done += n;
        }
        at += bytes;
        frames.push_back(std::move(frame));
      }
    }
  }
  // Layer by layer, as a node sends.
  std::stable_sort(frames.begin(), frames.end(), [](const Frame& a, const Frame& b) {
    return a.delivery.section < b.delivery.section;
  });
  return frames;
}

void FakeNode::fetch(PeerId peer, uint64_t tag, const proto::FetchRequest& request) {
  proto::FetchReply out;
  std::vector<Frame> frames = frames_of(request, out.mutable_codes());
  if (!frames.empty()) {
    if (fault_ == Fault::wrong_crc) frames.back().delivery.crcs[0] ^= 1;
    if (fault_ == Fault::wrong_target) frames.front().targets[0].offset += 1;
    if (fault_ == Fault::duplicate) frames.push_back(frames.front());
    if (fault_ == Fault::missing_frame) frames.pop_back();
    if (fault_ == Fault::foreign_item) frames.front().delivery.item = 1000;
    if (fault_ == Fault::dies_midway) frames.resize(frames.size() / 2);
    if (fault_ == Fault::short_reply) out.mutable_codes()->pop_back();
  }
  out.set_frames(frames.size());
  const std::string body = out.SerializeAsString();
  if (fault_ == Fault::reply_first) reply(peer, MessageKind::fetch_reply, tag, body);
  for (const Frame& frame : frames) write(peer, tag, frame);
  if (fault_ == Fault::dies_midway) return transport_->close_peer(peer, StatusCode::kUnavailable);
  if (fault_ == Fault::reply_first || fault_ == Fault::never_replies) return;
  reply(peer, MessageKind::fetch_reply, tag, body);
}

void FakeNode::write(PeerId peer, uint64_t tag, const Frame& frame) {
  const std::string body = pack_deliveries({&frame.delivery, 1});
  auto* sending = new Sending;
  sending->bytes = frame.bytes;
  const iovec from{sending->bytes.data(), sending->bytes.size()};
  const Status status = transport_->write(
      peer, {tag, 0, std::as_bytes(std::span(body.data(), body.size())), frame.targets, {&from, 1}},
      sending);
  if (!status.ok()) delete sending;
}

void FakeNode::put(PeerId peer, uint64_t tag, const proto::PutRequest& request) {
  auto put = std::make_unique<Put>(this, peer, tag);
  put->key = (*view_keys(request.key(), 1))[0];
  put->map = *RequestPlaces::create(request.pool())->next(request.fragments(), request.blocks());
  put->sections = *unpack_sections(request.sections());
  put->crcs.resize(put->sections.size());
  put->missing = static_cast<uint32_t>(put->sections.size());
  put->bytes.resize(put->map.bytes());
  proto::PutAdmission out;
  if (objects_.contains(put->key)) {
    out.mutable_outcome()->set_code(static_cast<int>(StatusCode::kAlreadyExists));
  } else {
    puts_[tag] = std::move(put);
  }
  reply(peer, MessageKind::put_admission, tag, out.SerializeAsString());
}

void FakeNode::source(uint64_t tag, const proto::PutSource& source) {
  const auto found = puts_.find(tag);
  if (found == puts_.end() || fault_ == Fault::never_reads) return;
  Put* const put = found->second.get();
  const auto crcs = *unpack_words(source.crcs(), 1u << 20);
  size_t next = 0;
  for (uint32_t s = source.first(); s < source.first() + source.count(); ++s) {
    TERRACE_CHECK(s < put->crcs.size() && put->crcs[s].empty());
    for (uint32_t u = 0; u < units_of(put->sections[s].bytes); ++u) {
      put->crcs[s].push_back(crcs.at(next++));
    }
    --put->missing;
  }
  TERRACE_CHECK(next == crcs.size());
  if (put->missing == 0) put->read_more();
}

void FakeNode::Put::read_more() {
  std::vector<RemoteSpan> sources;
  reading = map.locate({at, std::min<uint64_t>(kFrameBytes, bytes.size() - at)},
                       kFramesFragmentsMax, &sources);
  std::vector<std::byte>& room = bytes;
  if (node->fault_ == Fault::reads_too_much) {
    sources.back().length += 1;
    reading += 1;
    if (room.size() < at + reading) room.resize(at + reading);
  }
  const iovec into{room.data() + at, reading};
  busy = true;
  const Status status = node->transport_->read(peer, {tag, sources, {&into, 1}}, this);
  if (status.ok()) return;
  busy = false;
  node->puts_.erase(tag);
}

void FakeNode::put_done(Put* put, Status result) {
  put->busy = false;
  if (!result.ok()) ++refused_reads_;
  if (put->abandoned) {
    puts_.erase(put->tag);
    return;
  }
  put->at += put->reading;
  if (result.ok() && put->at < put->bytes.size()) return put->read_more();
  uint64_t at = 0;
  for (uint32_t s = 0; result.ok() && s < put->sections.size(); ++s) {
    for (uint32_t u = 0; u < put->crcs[s].size(); ++u) {
      const uint64_t done = uint64_t{u} * kCrcUnitBytes;
      const uint64_t n = std::min<uint64_t>(kCrcUnitBytes, put->sections[s].bytes - done);
      if (unit_crc(put->key, s, u, std::span(put->bytes).subspan(at + done, n)) !=
          put->crcs[s][u]) {
        result = StatusCode::kDataLoss;
      }
    }
    at += put->sections[s].bytes;
  }
  proto::PutReply out;
  out.mutable_outcome()->set_code(static_cast<int>(result.code()));
  if (result.ok()) objects_[put->key] = put->bytes;
  const PeerId peer = put->peer;
  const uint64_t tag = put->tag;
  puts_.erase(tag);
  reply(peer, MessageKind::put_reply, tag, out.SerializeAsString());
}

}  // namespace terrace
