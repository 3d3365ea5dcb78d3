#include "tools/trace/byte_source.h"

#include <fcntl.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/handle.h"

namespace terrace {
namespace {
constexpr size_t kReadBytes = 64 * 1024;
constexpr int kZstdWindowLogMax = 27;
constexpr std::string_view kZstdMagic = "\x28\xB5\x2F\xFD";

class FileSource final : public ByteSource {
 public:
  FileSource(Fd file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
  StatusOr<size_t> read(std::span<char> out) override {
    for (;;) {
      const ssize_t n = ::read(file_.get(), out.data(), out.size());
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR) return errno_status(errno, "read " + path_);
    }
  }

 private:
  Fd file_;
  std::string path_;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}
  StatusOr<size_t> read(std::span<char> out) override {
    const size_t n = std::min(out.size(), bytes_.size());
    if (n > 0) std::memcpy(out.data(), bytes_.data(), n);
    bytes_.remove_prefix(n);
    return n;
  }

 private:
  std::string_view bytes_;
};

/// Gives back what was peeked at, then goes on with the source.
class PrefixedSource final : public ByteSource {
 public:
  PrefixedSource(std::string prefix, std::unique_ptr<ByteSource> rest)
      : prefix_(std::move(prefix)), rest_(std::move(rest)) {}
  StatusOr<size_t> read(std::span<char> out) override {
    if (given_ == prefix_.size()) return rest_->read(out);
    const size_t n = prefix_.copy(out.data(), out.size(), given_);
    given_ += n;
    return n;
  }

 private:
  std::string prefix_;
  size_t given_ = 0;
  std::unique_ptr<ByteSource> rest_;
};

struct FreeStream {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

class ZstdSource final : public ByteSource {
 public:
  ZstdSource(std::unique_ptr<ByteSource> packed, ZSTD_DStream* stream)
      : packed_(std::move(packed)), stream_(stream), buffer_(kReadBytes) {
    ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, kZstdWindowLogMax);
  }

  StatusOr<size_t> read(std::span<char> out) override {
    ZSTD_outBuffer unpacked{out.data(), out.size(), 0};
    while (unpacked.pos == 0) {
      if (input_.pos == input_.size && !ended_) TERRACE_RETURN_IF_ERROR(refill());
      if (input_.pos == input_.size && ended_ && !inside_frame_) return size_t{0};
      const size_t before = input_.pos;
      const size_t hint = ZSTD_decompressStream(stream_.get(), &unpacked, &input_);
      if (ZSTD_isError(hint)) {
        return error(StatusCode::kDataLoss, std::string("zstd: ") + ZSTD_getErrorName(hint));
      }
      inside_frame_ = hint != 0;
      if (ended_ && unpacked.pos == 0 && input_.pos == before && inside_frame_) {
        return error(StatusCode::kDataLoss, "zstd: the last frame is cut short");
      }
    }
    return unpacked.pos;
  }

 private:
  Status refill() {
    TERRACE_ASSIGN_OR_RETURN(const size_t n, packed_->read(buffer_));
    ended_ = n == 0;
    input_ = {buffer_.data(), n, 0};
    return ok_status();
  }

  std::unique_ptr<ByteSource> packed_;
  std::unique_ptr<ZSTD_DStream, FreeStream> stream_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool ended_ = false;
  bool inside_frame_ = false;
};
}  // namespace

StatusOr<std::unique_ptr<ByteSource>> open_file_source(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) {
    return error(StatusCode::kNotFound, path + ": there is no such file");
  }
  if (!file) return errno_status(errno, "open " + path);
  return std::unique_ptr<ByteSource>(std::make_unique<FileSource>(std::move(file), path));
}

std::unique_ptr<ByteSource> make_memory_source(std::string_view bytes) {
  return std::make_unique<MemorySource>(bytes);
}

StatusOr<std::unique_ptr<ByteSource>> decompress(std::unique_ptr<ByteSource> source) {
  std::string magic(kZstdMagic.size(), '\0');
  size_t have = 0;
  while (have < magic.size()) {
    TERRACE_ASSIGN_OR_RETURN(const size_t n,
                             source->read({magic.data() + have, magic.size() - have}));
    if (n == 0) break;
    have += n;
  }
  magic.resize(have);
  const bool packed = magic == kZstdMagic;
  std::unique_ptr<ByteSource> whole =
      std::make_unique<PrefixedSource>(std::move(magic), std::move(source));
  if (!packed) return whole;
  ZSTD_DStream* stream = ZSTD_createDStream();
  if (stream == nullptr) return error(StatusCode::kResourceExhausted, "zstd: no memory");
  return std::unique_ptr<ByteSource>(std::make_unique<ZstdSource>(std::move(whole), stream));
}

Status LineReader::fill() {
  buffer_.erase(0, begin_);
  searched_ -= begin_;
  begin_ = 0;
  const size_t have = buffer_.size();
  buffer_.resize(have + kReadBytes);
  StatusOr<size_t> n = source_->read({buffer_.data() + have, kReadBytes});
  buffer_.resize(have + (n.ok() ? *n : 0));
  if (!n.ok()) return std::move(n).status();
  ended_ = *n == 0;
  return ok_status();
}

StatusOr<bool> LineReader::next(std::string_view* line) {
  for (;;) {
    const size_t end = buffer_.find('\n', searched_);
    const size_t length = (end == std::string::npos ? buffer_.size() : end) - begin_;
    if (length > line_bytes_max_) {
      ++line_number_;
      return error(StatusCode::kInvalidArgument,
                   "a line has more than " + std::to_string(line_bytes_max_) + " bytes");
    }
    if (end == std::string::npos && !ended_) {
      searched_ = buffer_.size();
      TERRACE_RETURN_IF_ERROR(fill());
      continue;
    }
    if (end == std::string::npos && length == 0) return false;
    *line = std::string_view(buffer_).substr(begin_, length);
    if (!line->empty() && line->back() == '\r') line->remove_suffix(1);
    begin_ = std::min(buffer_.size(), begin_ + length + 1);
    searched_ = begin_;
    ++line_number_;
    return true;
  }
}
}  // namespace terrace
