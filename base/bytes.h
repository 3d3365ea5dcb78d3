// base/bytes.h - little-endian integers and length-prefixed strings, into and out of byte runs. For
// every format that is ours. Values only.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace terrace {

// Integers are copied as they lie, which makes the difference in a reply of a thousand of them.
static_assert(std::endian::native == std::endian::little, "our formats are little-endian");

class ByteWriter {
 public:
  void u8(uint8_t v) { put(v); }
  void u16(uint16_t v) { put(v); }
  void u32(uint32_t v) { put(v); }
  void u64(uint64_t v) { put(v); }
  void raw(std::string_view bytes) { out_.append(bytes); }
  void raw(const void* bytes, size_t count) { out_.append(static_cast<const char*>(bytes), count); }
  /// u32 length, then the bytes.
  void text(std::string_view bytes) {
    u32(static_cast<uint32_t>(bytes.size()));
    raw(bytes);
  }
  size_t size() const { return out_.size(); }
  std::string take() { return std::move(out_); }

 private:
  template <class T>
  void put(T v) {
    out_.append(reinterpret_cast<const char*>(&v), sizeof(T));
  }
  std::string out_;
};

/// Reads what a ByteWriter wrote. Past the end everything reads as zero and ok() turns false: check
/// once, after the last read.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}
  uint8_t u8() { return get<uint8_t>(); }
  uint16_t u16() { return get<uint16_t>(); }
  uint32_t u32() { return get<uint32_t>(); }
  uint64_t u64() { return get<uint64_t>(); }
  std::string_view raw(size_t count) {
    if (count > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const std::string_view out = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return out;
  }
  void raw(void* into, size_t count) {
    const std::string_view out = raw(count);
    if (out.size() == count && count > 0) std::memcpy(into, out.data(), count);
  }
  /// A length-prefixed string of at most `max` bytes.
  std::string_view text(size_t max) {
    const uint32_t length = u32();
    if (length > max) ok_ = false;
    return ok_ ? raw(length) : std::string_view();
  }
  size_t left() const { return bytes_.size(); }
  bool ok() const { return ok_; }

 private:
  template <class T>
  T get() {
    T v = 0;
    raw(&v, sizeof(T));
    return v;
  }
  std::string_view bytes_;
  bool ok_ = true;
};
}  // namespace terrace
