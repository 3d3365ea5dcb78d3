#include "storage/data_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/prng.h"
#include "storage/data_file_io.h"
#include "storage/extent_map.h"

namespace terrace {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr size_t kIdentityUsed = 64;  // CRC included

std::string hex(const Uuid& uuid) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::byte b : uuid) {
    out += kDigits[std::to_integer<unsigned>(b) >> 4];
    out += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

/// O_DIRECT where the file system has it.
StatusOr<std::pair<Fd, bool>> open_direct(const std::string& path, int flags) {
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC | O_DIRECT, kFileMode));
  if (fd) return std::pair{std::move(fd), true};
  if (errno != EINVAL) return errno_status(errno, "open " + path);
  fd.reset(::open(path.c_str(), flags | O_CLOEXEC, kFileMode));
  if (!fd) return errno_status(errno, "open " + path);
  return std::pair{std::move(fd), false};
}

DataFileIdentity new_identity(const DataFile::Options& options, const Uuid& directory) {
  DataFileIdentity out;
  secure_random(out.device);
  out.place = options.place;
  out.directory = directory;
  out.bytes = options.bytes;
  out.created_seconds = unix_seconds();
  return out;
}

Status sync_parent(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const Fd fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return errno_status(errno, "fsync " + parent);
  return ok_status();
}
}  // namespace

void encode(const DataFileIdentity& identity, std::span<std::byte> into) {
  TERRACE_CHECK(into.size() == DataFileIdentity::kBytes);
  ByteWriter out;
  out.u32(DataFileIdentity::kMagic);
  TERRACE_CHECK(identity.place <= DataFileIdentity::kPlaceMax);
  out.u16(identity.place == 0 ? DataFileIdentity::kVersion : DataFileIdentity::kVersionWithPlace);
  out.u16(identity.place);
  out.raw(identity.device.data(), identity.device.size());
  out.raw(identity.directory.data(), identity.directory.size());
  out.u64(identity.bytes);
  out.u64(static_cast<uint64_t>(identity.created_seconds));
  out.u32(0);  // reserved
  const std::string body = out.take();
  TERRACE_CHECK(body.size() == kIdentityUsed - 4);
  std::fill(into.begin(), into.end(), std::byte{0});
  std::memcpy(into.data(), body.data(), body.size());
  const uint32_t crc = crc32c(into.first(body.size()));
  for (size_t i = 0; i < 4; ++i)
    into[body.size() + i] = static_cast<std::byte>(crc >> (8 * i) & 0xFF);
}

StatusOr<DataFileIdentity> decode_identity(std::span<const std::byte> bytes) {
  ByteReader in({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (bytes.size() < kIdentityUsed || in.u32() != DataFileIdentity::kMagic) {
    return error(StatusCode::kDataLoss, "no identity block");
  }
  const uint16_t version = in.u16();
  if (version > DataFileIdentity::kVersionWithPlace) {
    return error(
        StatusCode::kFailedPrecondition,
        "identity block: version " + std::to_string(version) + "; this build reads 1 and 2");
  }
  DataFileIdentity out;
  out.place = in.u16();
  in.raw(out.device.data(), out.device.size());
  in.raw(out.directory.data(), out.directory.size());
  out.bytes = in.u64();
  out.created_seconds = static_cast<int64_t>(in.u64());
  in.u32();  // reserved
  if (version == 0 || in.u32() != crc32c(bytes.first(kIdentityUsed - 4))) {
    return error(StatusCode::kDataLoss, "identity block: checksum differs");
  }
  const bool first = version == DataFileIdentity::kVersion;
  if (first != (out.place == 0) || out.place > DataFileIdentity::kPlaceMax) {
    return error(StatusCode::kDataLoss, "identity block: place " + std::to_string(out.place));
  }
  return out;
}

StatusOr<DataFileIdentity> read_identity(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_status(errno, "open " + path);
  std::array<std::byte, DataFileIdentity::kBytes> block;
  const ssize_t got = ::pread(fd.get(), block.data(), block.size(), 0);
  if (got < 0) return errno_status(errno, "read " + path);
  return decode_identity(std::span(block).first(static_cast<size_t>(got)));
}

FillGuard::FillGuard(uint64_t bytes)
    : claimed_(std::make_unique<std::atomic<uint64_t>[]>(
          static_cast<size_t>((bytes / kMiB + 64) / 64 + 1))) {}

// Each side first says what it does and then looks at the other (sequentially consistent), so at
// least one of them sees the other.
bool FillGuard::claim(uint64_t offset, uint64_t bytes) {
  const uint64_t first = offset / kMiB;
  const uint64_t last = (offset + bytes - 1) / kMiB;
  for (uint64_t mib = first; mib <= last; ++mib) {
    std::atomic<uint64_t>& word = claimed_[static_cast<size_t>(mib / 64)];
    const uint64_t bit = uint64_t{1} << (mib % 64);
    if ((word.load() & bit) == 0) word.fetch_or(bit);
  }
  const uint64_t now = current_.load();
  return now < first || now > last;
}

bool FillGuard::enter(uint64_t mib) {
  current_.store(mib);
  const uint64_t bit = uint64_t{1} << (mib % 64);
  if ((claimed_[static_cast<size_t>(mib / 64)].load() & bit) == 0) return true;
  leave();
  return false;
}

StatusOr<std::unique_ptr<DataFile>> DataFile::open(const Options& options, const Uuid& directory) {
  struct stat info {};
  const bool there = ::stat(options.path.c_str(), &info) == 0;
  if (!there && (errno != ENOENT || !options.make)) {
    return errno_status(errno, "stat " + options.path);
  }
  if (options.bytes % DataFileIdentity::kBytes != 0 || (!there && options.bytes == 0)) {
    return error(StatusCode::kInvalidArgument, options.path + ": size " +
                                                   std::to_string(options.bytes) +
                                                   " is not a positive multiple of 4096");
  }
  StatusOr<std::unique_ptr<DataFile>> file =
      there ? adopt(options, directory) : create(options, directory);
  if (file.ok() && options.fill) (*file)->start_filler();
  return file;
}

/// Under another name until it is whole: a file with the right name is a complete one.
StatusOr<std::unique_ptr<DataFile>> DataFile::create(const Options& options,
                                                     const Uuid& directory) {
  const std::string beside = options.path + ".new";
  TERRACE_ASSIGN_OR_RETURN(auto opened, open_direct(beside, O_RDWR | O_CREAT | O_TRUNC));
  auto file =
      std::unique_ptr<DataFile>(new DataFile(options.path, std::move(opened.first), opened.second));
  const auto build = [&]() -> Status {
    bool write = options.bytes <= options.zero_at_creation_max;
    if (::fallocate(file->fd(), 0, 0, static_cast<off_t>(options.bytes)) != 0) {
      if (errno != EOPNOTSUPP) {
        return errno_status(
            errno, "reserve " + std::to_string(options.bytes) + " bytes for " + options.path);
      }
      write = true;  // the only way left to be sure of the space
    }
    // The filler leaves the identity's MiB alone.
    const uint64_t now = write ? options.bytes : std::min(kMiB, options.bytes);
    TERRACE_RETURN_IF_ERROR(write_zeroes(file->fd(), 0, now, options.path, [&](uint64_t done) {
      if (options.progress) options.progress(done, now);
      return true;
    }));
    file->zeroed_ = now;
    file->identity_ = new_identity(options, directory);
    TERRACE_RETURN_IF_ERROR(write_identity(file->fd(), file->identity_, beside));
    if (::rename(beside.c_str(), options.path.c_str()) != 0) {
      return errno_status(errno, "rename " + beside);
    }
    return sync_parent(options.path);
  };
  if (const Status built = build(); !built.ok()) {
    ::unlink(beside.c_str());
    return built;
  }
  return file;
}

StatusOr<std::unique_ptr<DataFile>> DataFile::adopt(const Options& options, const Uuid& directory) {
  TERRACE_ASSIGN_OR_RETURN(auto opened, open_direct(options.path, O_RDWR));
  auto file =
      std::unique_ptr<DataFile>(new DataFile(options.path, std::move(opened.first), opened.second));
  bool block_device = false;
  TERRACE_ASSIGN_OR_RETURN(const uint64_t bytes, size_of(file->fd(), options.path, &block_device));
  TERRACE_ASSIGN_OR_RETURN(AlignedBuffer block, AlignedBuffer::allocate(DataFileIdentity::kBytes));
  const ssize_t got = ::pread(file->fd(), block.data(), block.size(), 0);
  if (got < 0) return errno_status(errno, "read " + options.path);
  StatusOr<DataFileIdentity> identity =
      decode_identity(std::as_const(block).span().first(static_cast<size_t>(got)));
  const auto refuse = [&](StatusCode code, const std::string& why) {
    return error(code, options.path + ": " + why);
  };
  if (!identity.ok() && block_device && identity.status().code() == StatusCode::kDataLoss) {
    if (!options.format_block_device) {
      return refuse(StatusCode::kFailedPrecondition, "a device that is not ours; release it first");
    }
    if (!options.make) return refuse(StatusCode::kNotFound, "holds nothing of ours yet");
    Options sized = options;
    if (sized.bytes == 0) sized.bytes = bytes / DataFileIdentity::kBytes * DataFileIdentity::kBytes;
    if (sized.bytes > ExtentMap::kBytesMax) {
      return refuse(StatusCode::kInvalidArgument,
                    "has " + std::to_string(sized.bytes) +
                        " bytes, and at most 16 TiB of a device can be used: set nvme_bytes");
    }
    if (sized.bytes > bytes) {
      return refuse(StatusCode::kResourceExhausted,
                    "has " + std::to_string(bytes) + " bytes, not " + std::to_string(sized.bytes));
    }
    identity = new_identity(sized, directory);
    TERRACE_RETURN_IF_ERROR(write_identity(file->fd(), *identity, options.path));
  }
  if (!identity.ok()) return refuse(identity.status().code(), identity.status().message());
  if (identity->directory != directory) {
    return refuse(
        StatusCode::kFailedPrecondition,
        "belongs to data directory " + hex(identity->directory) + ", not " + hex(directory));
  }
  if (options.bytes != 0 && options.bytes != identity->bytes) {
    spdlog::warn(
        "event=nvme_size path={} bytes={} nvme_bytes={}: its own size holds; `terrace tier resize "
        "nvme` changes it",
        options.path, identity->bytes, options.bytes);
  }
  if (bytes < identity->bytes) {
    return refuse(StatusCode::kDataLoss, "cut to " + std::to_string(bytes) + " of " +
                                             std::to_string(identity->bytes) + " bytes");
  }
  if (!block_device && bytes > identity->bytes) {  // a resize was cut short
    spdlog::warn("event=nvme_file_cut path={} from={} to={}", options.path, bytes, identity->bytes);
    if (::ftruncate(file->fd(), static_cast<off_t>(identity->bytes)) != 0) {
      return errno_status(errno, "truncate " + options.path);
    }
  }
  file->identity_ = *identity;
  file->block_device_ = block_device;
  file->zeroed_ = block_device ? identity->bytes : 0;
  return file;
}

DataFile::~DataFile() {
  stop_ = true;
  if (filler_.joinable()) filler_.join();
}

void DataFile::start_filler() {
  if (zeroed_ >= size_bytes()) return;
  // Nothing is filled that holds data, whoever wrote it and when: the file system knows which
  // preallocated ranges were never written and calls them holes.
  if (::lseek(fd_.get(), 0, SEEK_HOLE) >= static_cast<off_t>(size_bytes())) {
    zeroed_ = size_bytes();
    return;
  }
  guard_ = std::make_unique<FillGuard>(size_bytes());
  filler_ = std::thread([this] { fill(); });
}

void DataFile::fill() {
  StatusOr<AlignedBuffer> zeroes = AlignedBuffer::allocate(kMiB);
  if (!zeroes.ok()) return;
  const auto end = static_cast<off_t>(size_bytes() / kMiB * kMiB);
  off_t at = 0;
  while (!stop_) {
    at = ::lseek(fd_.get(), at, SEEK_HOLE);
    constexpr auto kStep = static_cast<off_t>(kMiB);
    const off_t mib = at < 0 ? end : (at + kStep - 1) / kStep;
    at = mib * kStep;
    if (at < 0 || mib >= end / kStep) break;
    zeroed_ = static_cast<uint64_t>(at);
    if (guard_->enter(static_cast<uint64_t>(mib))) {
      // Looked at again inside: a write that ended before we came in is data now.
      const off_t data = ::lseek(fd_.get(), at, SEEK_DATA);
      const bool hole = (data < 0 && errno == ENXIO) || data >= at + kStep;
      const bool written =
          !hole || write_all(fd_.get(), zeroes->span(), static_cast<uint64_t>(at), "zeroes").ok();
      guard_->leave();
      if (!written) return;  // slower, not wrong
    }
    at += kStep;
  }
  if (!stop_) zeroed_ = size_bytes();
}
}  // namespace terrace
