// tools/reference_engine/safetensors.h - the weights of a model directory: `model.safetensors`, or
// the shards that `model.safetensors.index.json` names.
//
// Files are mapped and must not shrink while they are open. A file is hostile until its header has
// been checked: every offset lies in the file, every length equals its shape's. Reading is safe
// from many threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tools/reference_engine/ops.h"

namespace terrace {

enum class TensorType : uint8_t { f32, f16, bf16, other };  // other: stored, and not readable here

struct TensorInfo {
  TensorType type = TensorType::other;
  std::vector<uint64_t> shape;
  uint64_t begin = 0;  // bytes, from the start of the file
  uint64_t end = 0;
};

/// Checks the header of a whole file's bytes. kInvalidArgument says what is wrong where.
StatusOr<std::map<std::string, TensorInfo>> parse_safetensors(std::string_view file);

/// `halves` (little-endian bytes of 16-bit floats) to float32; sizes must match.
void widen_f16(std::string_view halves, std::span<float> out);
void widen_bf16(std::string_view halves, std::span<float> out);

/// A file mapped for reading. Move-only.
class MappedFile {
 public:
  /// kNotFound, or what the system says.
  static StatusOr<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::string_view bytes() const { return {static_cast<const char*>(address_), size_}; }

 private:
  MappedFile(void* address, size_t size) : address_(address), size_(size) {}
  void* address_ = nullptr;
  size_t size_ = 0;
};

class Checkpoint {
 public:
  /// kNotFound when the directory has neither file, kInvalidArgument for a damaged one.
  static StatusOr<Checkpoint> open(const std::string& directory);
  bool has(const std::string& name) const { return tensors_.contains(name); }
  /// kNotFound; kInvalidArgument when the shape is another (the message has both); kUnimplemented
  /// for an element type other than F32, F16, BF16.
  StatusOr<FloatArray> read(const std::string& name, std::span<const uint64_t> shape) const;
  /// SHA-256 over every byte of every file, in order of their names; hexadecimal. Reads them all.
  std::string digest() const;

 private:
  struct Place {
    size_t file = 0;
    TensorInfo info;
  };
  Status add_file(const std::string& path);

  std::vector<MappedFile> files_;
  std::map<std::string, Place> tensors_;
};
}  // namespace terrace
