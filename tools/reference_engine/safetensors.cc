#include "tools/reference_engine/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "base/handle.h"
#include "base/identity.h"
#include "tools/reference_engine/bounded_json.h"
#include "tools/reference_engine/config.h"

namespace terrace {
namespace {
using Json = nlohmann::json;

constexpr uint64_t kHeaderBytesMax = 16 * kMiB;
constexpr uint64_t kIndexBytesMax = 16 * kMiB;
constexpr size_t kRankMax = 8;
constexpr size_t kShardsMax = 1024;
constexpr size_t kNameShownMax = 128;

Status wrong(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "safetensors: " + what);
}

TensorType type_of(const std::string& name) {
  if (name == "F32") return TensorType::f32;
  if (name == "F16") return TensorType::f16;
  return name == "BF16" ? TensorType::bf16 : TensorType::other;
}
uint64_t element_bytes(TensorType type) {
  return type == TensorType::f32 ? 4 : 2;
}

std::string show(std::span<const uint64_t> shape) {
  std::string text = "[";
  for (const uint64_t extent : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

/// The unsigned integers of `array`, or false.
bool read_integers(const Json& array, size_t count_max, std::vector<uint64_t>* out) {
  if (!array.is_array() || array.size() > count_max) return false;
  for (const Json& item : array) {
    if (!item.is_number_unsigned()) return false;
    out->push_back(item.get<uint64_t>());
  }
  return true;
}

/// False on overflow.
bool multiply_all(std::span<const uint64_t> factors, uint64_t* product) {
  for (const uint64_t factor : factors) {
    if (__builtin_mul_overflow(*product, factor, product)) return false;
  }
  return true;
}

/// `data` is where tensors begin in the file, `size` the file's.
StatusOr<TensorInfo> parse_tensor(const Json& entry, uint64_t data, uint64_t size) {
  if (!entry.is_object()) return wrong("want an object");
  const auto type = entry.find("dtype");
  const auto shape = entry.find("shape");
  const auto offsets = entry.find("data_offsets");
  if (type == entry.end() || shape == entry.end() || offsets == entry.end()) {
    return wrong("dtype, shape or data_offsets is missing");
  }
  TensorInfo info;
  if (!type->is_string()) return wrong("dtype: want a string");
  info.type = type_of(type->get<std::string>());
  if (!read_integers(*shape, kRankMax, &info.shape)) {
    return wrong("shape: want at most " + std::to_string(kRankMax) + " unsigned integers");
  }
  std::vector<uint64_t> range;
  if (!read_integers(*offsets, 2, &range) || range.size() != 2) {
    return wrong("data_offsets: want two unsigned integers");
  }
  if (range[0] > range[1] || range[1] > size - data) {
    return wrong("data_offsets " + show(range) + " of " + std::to_string(size - data) + " bytes");
  }
  info.begin = data + range[0];
  info.end = data + range[1];
  if (info.type == TensorType::other) return info;
  uint64_t bytes = element_bytes(info.type);
  if (!multiply_all(info.shape, &bytes) || bytes != range[1] - range[0]) {
    return wrong("shape " + show(info.shape) + " does not fill data_offsets " + show(range));
  }
  return info;
}

float widen_half(uint32_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1Fu;
  const uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0) {  // zero and subnormal: mantissa * 2^-24, exact
    return std::bit_cast<float>(sign |
                                std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1.0p-24f));
  }
  const uint32_t wide = exponent == 0x1F ? 0xFFu : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

uint32_t half_at(std::string_view halves, size_t index) {
  uint16_t half = 0;
  std::memcpy(&half, halves.data() + index * sizeof(half), sizeof(half));
  return half;
}

/// The shard files that the index names, each once, in order of their names.
StatusOr<std::set<std::string>> parse_index(const std::string& path) {
  TERRACE_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kIndexBytesMax));
  const Json json = parse_bounded_json(text);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) {
    return wrong(path + ": weight_map is missing");
  }
  std::set<std::string> files;
  for (const Json& file : *map) {
    if (!file.is_string()) return wrong(path + ": weight_map: want file names");
    files.insert(file.get<std::string>());
    const std::string& name = file.get_ref<const std::string&>();
    if (name.empty() || name.find('/') != std::string::npos || files.size() > kShardsMax) {
      return wrong(path + ": want at most " + std::to_string(kShardsMax) +
                   " files of this directory, not \"" + name.substr(0, kNameShownMax) + "\"");
    }
  }
  if (files.empty()) return wrong(path + ": weight_map is empty");
  return files;
}
}  // namespace

StatusOr<std::map<std::string, TensorInfo>> parse_safetensors(std::string_view file) {
  ByteReader in(file);
  const uint64_t length = in.u64();
  if (!in.ok() || length > kHeaderBytesMax || length > in.left()) {
    return wrong("a header of " + std::to_string(length) + " bytes in a file of " +
                 std::to_string(file.size()) + "; at most " + std::to_string(kHeaderBytesMax));
  }
  const std::string_view header = in.raw(length);
  const Json json = parse_bounded_json(header);
  if (!json.is_object()) return wrong("the header is no JSON object");
  std::map<std::string, TensorInfo> tensors;
  for (auto at = json.begin(); at != json.end(); ++at) {
    if (at.key() == "__metadata__") continue;
    StatusOr<TensorInfo> info = parse_tensor(*at, sizeof(uint64_t) + length, file.size());
    if (!info.ok()) {
      return error(info.status().code(),
                   "tensor " + at.key().substr(0, kNameShownMax) + ": " + info.status().message());
    }
    tensors.emplace(at.key(), *std::move(info));
  }
  return tensors;
}

void widen_f16(std::string_view halves, std::span<float> out) {
  TERRACE_CHECK(halves.size() == out.size() * sizeof(uint16_t));
  for (size_t i = 0; i < out.size(); ++i) out[i] = widen_half(half_at(halves, i));
}

void widen_bf16(std::string_view halves, std::span<float> out) {
  TERRACE_CHECK(halves.size() == out.size() * sizeof(uint16_t));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = std::bit_cast<float>(half_at(halves, i) << 16);
  }
}

StatusOr<MappedFile> MappedFile::open(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT) return error(StatusCode::kNotFound, path + " does not exist");
    return errno_status(errno, "open " + path);
  }
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return errno_status(errno, "fstat " + path);
  if (!S_ISREG(about.st_mode) || about.st_size <= 0) {
    return error(StatusCode::kInvalidArgument, path + " is empty or no file");
  }
  const size_t size = static_cast<size_t>(about.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) return errno_status(errno, "mmap " + path);
  return MappedFile(address, size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (address_ != nullptr) ::munmap(address_, size_);
}

Status Checkpoint::add_file(const std::string& path) {
  TERRACE_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  StatusOr<std::map<std::string, TensorInfo>> tensors = parse_safetensors(file.bytes());
  if (!tensors.ok())
    return error(tensors.status().code(), path + ": " + tensors.status().message());
  for (auto& [name, info] : *tensors) {
    if (!tensors_.emplace(name, Place{files_.size(), std::move(info)}).second) {
      return wrong(path + ": tensor " + name.substr(0, kNameShownMax) + " is in another file too");
    }
  }
  files_.push_back(std::move(file));
  return ok_status();
}

StatusOr<Checkpoint> Checkpoint::open(const std::string& directory) {
  Checkpoint checkpoint;
  Status single = checkpoint.add_file(directory + "/model.safetensors");
  if (single.ok()) return checkpoint;
  if (single.code() != StatusCode::kNotFound) return single;
  StatusOr<std::set<std::string>> shards = parse_index(directory + "/model.safetensors.index.json");
  if (!shards.ok())
    return shards.status().code() == StatusCode::kNotFound ? single : shards.status();
  for (const std::string& shard : *shards) {
    TERRACE_RETURN_IF_ERROR(checkpoint.add_file(directory + "/" + shard));
  }
  return checkpoint;
}

StatusOr<FloatArray> Checkpoint::read(const std::string& name,
                                      std::span<const uint64_t> shape) const {
  const auto at = tensors_.find(name);
  if (at == tensors_.end()) return error(StatusCode::kNotFound, "no tensor " + name);
  const TensorInfo& info = at->second.info;
  if (!std::equal(shape.begin(), shape.end(), info.shape.begin(), info.shape.end())) {
    return wrong("tensor " + name + " has shape " + show(info.shape) + ", config.json asks for " +
                 show(shape));
  }
  if (info.type == TensorType::other) {
    return error(StatusCode::kUnimplemented, "tensor " + name + " is none of F32, F16, BF16");
  }
  const std::string_view bytes =
      files_[at->second.file].bytes().substr(info.begin, info.end - info.begin);
  FloatArray out(bytes.size() / element_bytes(info.type));
  if (info.type == TensorType::f32) std::memcpy(out.data(), bytes.data(), bytes.size());
  if (info.type == TensorType::f16) widen_f16(bytes, out.span());
  if (info.type == TensorType::bf16) widen_bf16(bytes, out.span());
  return out;
}

std::string Checkpoint::digest() const {
  if (files_.size() == 1) return sha256(files_[0].bytes()).hex();
  std::string digests;
  for (const MappedFile& file : files_) digests += sha256(file.bytes()).hex();
  return sha256(digests).hex();
}
}  // namespace terrace
