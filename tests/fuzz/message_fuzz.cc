// Goal: no message body of a peer, however hostile, makes what parses it crash, allocate beyond its
// bounds, or accept arrays that do not add up.
// Method: byte 0 picks the parser, the rest is its input: packed arrays, deliveries, fingerprints,
// protobuf bodies with the fragments inside them. What is accepted is packed again and must come
// out the same.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/identity.h"
#include "base/limits.h"
#include "proto/data.pb.h"
#include "proto/fragment_map.h"
#include "proto/message_kind.h"
#include "proto/request_places.h"

namespace terrace {
namespace {

constexpr uint8_t kParsers = 9;

void try_map(const StatusOr<FragmentMap>& map) {
  if (!map.ok()) return;
  for (const ByteRange& run : map->runs()) {
    std::vector<RemoteSpan> spans;
    const uint64_t held = map->locate(run, kFramesFragmentsMax, &spans);
    TERRACE_CHECK(held > 0 && held <= run.bytes && spans.size() <= kFramesFragmentsMax);
  }
}

void try_fragments(std::string_view bytes) {
  const auto fragments = unpack_fragments(bytes, kFragmentsPerRequestMax);
  if (!fragments.ok()) return;
  TERRACE_CHECK(pack_fragments(*fragments) == bytes);
  try_map(FragmentMap::create(*fragments));
}

void try_planes(std::string_view bytes) {
  const auto planes = unpack_planes(bytes, kSectionsMax);
  if (!planes.ok()) return;
  TERRACE_CHECK(pack_planes(*planes) == bytes);
  auto pool = std::make_shared<const PagedPool>(*planes);
  try_map(FragmentMap::create_paged(pool, {0}));
  try_map(FragmentMap::create_paged(pool, {7, 3, 4, ~0u}));
}

void try_deliveries(std::string_view bytes) {
  const auto deliveries = unpack_deliveries(bytes);
  if (!deliveries.ok()) return;
  TERRACE_CHECK(deliveries->size() <= kDeliveriesPerFrameMax);
  TERRACE_CHECK(pack_deliveries(*deliveries) == bytes);
}

void try_fingerprint(std::string_view bytes) {
  const auto fingerprint = parse_fingerprint(bytes);
  if (!fingerprint.ok()) return;
  TERRACE_CHECK(fingerprint->validate().ok());
  const std::string canonical = canonical_bytes(*fingerprint);
  const auto again = parse_fingerprint(canonical);
  TERRACE_CHECK(again.ok() && canonical_bytes(*again) == canonical);
  if (fingerprint->raw()) return;
  (void)sections_of(fingerprint->geometry, fingerprint->geometry.tokens_per_chunk);
}

void try_requests(std::string_view bytes) {
  const auto size = static_cast<int>(bytes.size());
  proto::FetchRequest fetch;
  if (fetch.ParseFromArray(bytes.data(), size)) {
    auto places = RequestPlaces::create(fetch.pool());
    for (int i = 0; places.ok() && i < fetch.items_size(); ++i) {
      try_map(places->next(fetch.items(i).fragments(), fetch.items(i).blocks()));
    }
  }
  proto::PutRequest put;
  if (put.ParseFromArray(bytes.data(), size)) {
    (void)unpack_sections(put.sections());
    auto places = RequestPlaces::create(put.pool());
    if (places.ok()) try_map(places->next(put.fragments(), put.blocks()));
  }
  proto::MatchRequest match;
  if (match.ParseFromArray(bytes.data(), size)) {
    for (const auto& group : match.groups()) (void)view_keys(group.keys(), kKeysPerRequestMax);
  }
}
}  // namespace
}  // namespace terrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  if (size == 0) return 0;
  // A copy of its own length, so that a read past its end is seen.
  const std::string input(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % kParsers) {
    case 0:
      try_fragments(input);
      break;
    case 1:
      try_deliveries(input);
      break;
    case 2:
      try_fingerprint(input);
      break;
    case 3:
      try_requests(input);
      break;
    case 4:
      if (const auto infos = unpack_infos(input, kKeysPerRequestMax); infos.ok()) {
        TERRACE_CHECK(infos->size() * kWireInfoBytes == input.size());
      }
      break;
    case 5:
      if (const auto sections = unpack_sections(input); sections.ok()) {
        TERRACE_CHECK(pack_sections(*sections) == input);
        TERRACE_CHECK(total_bytes(*sections) <= kObjectBytesMax);
      }
      break;
    case 6:
      if (const auto words = unpack_words(input, kBodyBytesMax / 4); words.ok()) {
        TERRACE_CHECK(pack_words(*words) == input);
      }
      break;
    case 7:
      try_planes(input);
      break;
    default:
      if (const auto keys = view_keys(input, kKeysPerRequestMax); keys.ok()) {
        TERRACE_CHECK(pack_keys(*keys) == input);
      }
  }
  return 0;
}

/// One good input of each parser.
extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  Fingerprint model;
  model.model_id = "m";
  model.geometry.tokens_per_chunk = 16;
  model.geometry.layers.assign(2, {2, 64, Dtype::bf16, Attention::gqa, 0, -1, 0});
  const Fragment fragments[] = {{0, RegionId{1}, 64, 4096}, {4096, RegionId{2}, 0, 100}};
  const std::vector<SectionSpec> sections = sections_of(model.geometry, 16);
  Delivery delivery;
  delivery.bytes = 70'000;
  delivery.crcs = {1, 2};
  proto::FetchRequest fetch;
  fetch.add_items()->set_fragments(pack_fragments(fragments));
  const PoolPlane planes[] = {{0, RegionId{1}, 64, 4096, 512}, {2048, RegionId{2}, 0, 512, 512}};
  const uint32_t blocks[] = {3, 1, 2, 9};
  fetch.set_pool(pack_planes(planes));
  fetch.add_items()->set_blocks(pack_words(blocks));
  const ChunkKey key;
  std::string infos;
  pack_info({}, &infos);
  const uint32_t words[] = {1, 2, 3};
  const std::string seeds[kParsers] = {pack_fragments(fragments),
                                       pack_deliveries({&delivery, 1}),
                                       canonical_bytes(model),
                                       fetch.SerializeAsString(),
                                       infos,
                                       pack_sections(sections),
                                       pack_words(words),
                                       pack_planes(planes),
                                       pack_keys({&key, 1})};
  if (i >= kParsers) return 0;
  TERRACE_CHECK(seeds[i].size() + 1 <= out_max);
  out[0] = static_cast<uint8_t>(i);
  std::memcpy(out + 1, seeds[i].data(), seeds[i].size());
  return seeds[i].size() + 1;
}
