// Goal: no bytes in the file of learned uses crash its reader or the policy that recalls them, or
// make it value an object at what is no number. Method: every input as it is and with its checksum
// made right; what is accepted is encoded again to the same bytes, recalled, and used.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/policy/value_policy.h"
#include "storage/use_file.h"

namespace terrace {
namespace {

void try_recall(const UseMemory& memory, Nanos taken, Nanos now) {
  ValuePolicy policy;
  if (!policy.recall(memory, taken)) return;
  for (uint32_t id = 0; id < 8; ++id) {
    const uint64_t name = id < memory.objects.size() ? memory.objects[id].name : id;
    policy.known_again(id, {.name = name, .bytes = 4096, .recompute_s = 0.01}, now);
    policy.entered(Tier::nvme, 0, id);
  }
  policy.recall_over();
  for (uint32_t id = 0; id < 8; ++id) {
    TERRACE_CHECK(std::isfinite(policy.value(id, now)) && policy.value(id, now) >= 0);
    policy.used(id, now + seconds(id));
    TERRACE_CHECK(policy.facts(id, now).uses > 0);
  }
}

void try_file(const std::string& bytes) {
  const StatusOr<UseFile> file = decode_uses(bytes);
  if (!file.ok()) return;
  TERRACE_CHECK(encode_uses(*file) == bytes);
  try_recall(file->memory, seconds(5), seconds(5));
  try_recall(file->memory, seconds(-100'000'000), Nanos(0));
}

/// Of a policy that has learned little, so that the file is small: no room for all of a model.
UseFile sample(bool objects) {
  UseFile file;
  file.taken_s = 1'700'000'000;
  file.memory.left_out = objects ? 1 : 0;
  if (objects) file.memory.objects = {{1, 1000, {2, 5}}, {77, ~uint32_t{0}, {300, 63}}};
  file.memory.model = GapHistogram().counts();
  return file;
}
}  // namespace
}  // namespace terrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  try_file(bytes);
  if (bytes.size() < 4) return 0;
  const uint32_t crc = crc32c(std::as_bytes(std::span(bytes.data(), bytes.size() - 4)));
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
  try_file(bytes);
  return 0;
}

extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  if (i >= 2) return 0;
  const std::string bytes = encode_uses(sample(i == 1));
  TERRACE_CHECK(bytes.size() <= out_max);
  std::memcpy(out, bytes.data(), bytes.size());
  return bytes.size();
}
