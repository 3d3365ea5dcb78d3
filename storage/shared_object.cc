#include "storage/shared_object.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/limits.h"

namespace terrace {
namespace {

std::string_view text_of(const ChunkKey& digest) {
  return {reinterpret_cast<const char*>(digest.digest.data()), digest.digest.size()};
}

Status damaged(const SharedName& name, const std::string& what) {
  return error(StatusCode::kDataLoss, "shared object " + shared_path(name) + ": " + what);
}

/// A copy that ends early is damaged; a medium that fails is not.
/// A medium that is not what the configuration says is one that fails; of a copy the same code says
/// that a later build wrote it.
Status of_medium(Status said) {
  if (said.code() != StatusCode::kFailedPrecondition) return said;
  return error(StatusCode::kUnavailable, said.message());
}

Status read_whole(const SharedName& name, SharedBytes* from, uint64_t offset,
                  std::span<std::byte> into) {
  Status read = of_medium(from->read(offset, into));
  return read.code() == StatusCode::kOutOfRange ? damaged(name, read.message()) : read;
}

/// `again`: what this machine remembers of it may be what is damaged.
StatusOr<std::unique_ptr<SharedBytes>> open_copy(SharedMedium* medium, const SharedName& name,
                                                 bool again) {
  StatusOr<std::unique_ptr<SharedBytes>> file = medium->open(shared_path(name));
  if (file.ok() && again) (*file)->forget();
  if (file.ok()) return file;
  return of_medium(file.status());
}

/// Hands out gathered memory in order.
class Gathered {
 public:
  explicit Gathered(std::span<const iovec> pieces) : pieces_(pieces) {}
  /// Up to `max` contiguous bytes; empty at the end.
  std::span<std::byte> next(uint64_t max) {
    while (index_ < pieces_.size() && at_ == pieces_[index_].iov_len) {
      ++index_;
      at_ = 0;
    }
    if (index_ == pieces_.size()) return {};
    const iovec& piece = pieces_[index_];
    const size_t bytes = std::min<size_t>(max, piece.iov_len - at_);
    std::byte* const begin = static_cast<std::byte*>(piece.iov_base) + at_;
    at_ += bytes;
    return {begin, bytes};
  }

 private:
  const std::span<const iovec> pieces_;
  size_t index_ = 0;
  size_t at_ = 0;
};

/// Damage that a second reading has not got came about on the way, and says nothing of the copy.
/// `read(again)`: the second one opens the copy anew, from the medium.
template <class Read>
Status read_twice(const Read& read) {
  Status first = read(false);
  return first.code() == StatusCode::kDataLoss ? read(true) : first;
}

Status verify(const ObjectHeader& header, std::span<const iovec> data) {
  Gathered memory(data);
  size_t index = 0;
  for (uint32_t s = 0; s < header.sections.size(); ++s) {
    uint64_t left = header.sections[s].bytes;
    for (uint32_t unit = 0; left > 0; ++unit) {
      uint64_t of_unit = std::min<uint64_t>(left, kCrcUnitBytes);
      left -= of_unit;
      uint32_t crc = unit_crc_seed(header.key, s, unit);
      while (of_unit > 0) {
        const std::span<const std::byte> run = memory.next(of_unit);
        if (run.empty()) return error(StatusCode::kDataLoss, "too few bytes");
        crc = crc32c(run, crc);
        of_unit -= run.size();
      }
      if (crc != header.unit_crcs[index++]) {
        return error(StatusCode::kDataLoss, "section " + std::to_string(s) + " unit " +
                                                std::to_string(unit) + ": checksum differs");
      }
    }
    uint64_t padding = (kSectorBytes - header.sections[s].bytes % kSectorBytes) % kSectorBytes;
    while (padding > 0) {
      const size_t skipped = memory.next(padding).size();
      if (skipped == 0) return error(StatusCode::kDataLoss, "too few bytes");
      padding -= skipped;
    }
  }
  return ok_status();
}
}  // namespace

Status publish_shared(SharedMedium* medium, const SharedName& name, const ObjectHeader& header,
                      std::span<const iovec> data) {
  if (Status bad = verify(header, data); !bad.ok()) return damaged(name, bad.message());
  ObjectHeader shared = header;
  shared.ns = NamespaceId{0};
  shared.generation = name.generation.number;
  shared.extents.clear();
  const ObjectHints hints = hints_of(header);
  shared.optional_features = kFeatureNamespaceDigest;
  shared.optional_fields = text_of(name.ns);
  add_hints(&shared, hints.kept.value_or(Kept()), hints.worth);
  std::vector<std::byte> head(header_bytes(shared, 0));
  encode(shared, head);
  std::vector<iovec> pieces{{head.data(), head.size()}};
  pieces.insert(pieces.end(), data.begin(), data.end());
  return medium->publish(shared_path(name), pieces);
}

namespace {

StatusOr<SharedHeader> read_header(SharedBytes* file, const SharedName& name) {
  const uint64_t size = file->size();
  if (size < kSectorBytes) return damaged(name, std::to_string(size) + " bytes are no object");
  std::vector<std::byte> head(kSectorBytes);
  TERRACE_RETURN_IF_ERROR(read_whole(name, file, 0, head));
  TERRACE_ASSIGN_OR_RETURN(const uint64_t bytes, header_size_of(head));
  if (bytes < kSectorBytes || bytes > size) return damaged(name, "ends inside its header");
  head.resize(bytes);
  const std::span<std::byte> rest = std::span(head).subspan(kSectorBytes);
  if (!rest.empty()) TERRACE_RETURN_IF_ERROR(read_whole(name, file, kSectorBytes, rest));
  SharedHeader out;
  TERRACE_ASSIGN_OR_RETURN(out.header, decode_object_header(head));
  out.bytes = bytes;
  out.age = file->age();
  const ObjectHeader& header = out.header;
  const bool named = (header.optional_features & kFeatureNamespaceDigest) != 0 &&
                     std::string_view(header.optional_fields).starts_with(text_of(name.ns));
  if (header.key != name.key || header.generation != name.generation.number || !named) {
    return damaged(name, "its header names key " + header.key.hex() + " generation " +
                             std::to_string(header.generation) + ", or another namespace");
  }
  const bool empty_section =
      std::any_of(header.sections.begin(), header.sections.end(),
                  [](const SectionSpec& section) { return section.bytes == 0; });
  if (!header.extents.empty() || empty_section) {
    return damaged(name, "its header has extents, or an empty section");
  }
  const ObjectLayout layout(bytes, header.sections);
  if (header.sections.empty() || layout.logical_bytes() != name.generation.logical_bytes()) {
    return damaged(name, std::to_string(layout.logical_bytes()) + " bytes in its header");
  }
  if (layout.stored_bytes() != size) {
    return damaged(
        name, std::to_string(size) + " bytes instead of " + std::to_string(layout.stored_bytes()));
  }
  return out;
}

Status read_data(SharedMedium* medium, const SharedName& name, const SharedHeader& header,
                 std::span<const iovec> data, bool again) {
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<SharedBytes> file, open_copy(medium, name, again));
  Status read = file->read_pieces(header.bytes, data);
  if (read.code() == StatusCode::kOutOfRange) return damaged(name, read.message());
  TERRACE_RETURN_IF_ERROR(std::move(read));
  const Status bad = verify(header.header, data);
  return bad.ok() ? bad : damaged(name, bad.message());
}
}  // namespace

StatusOr<SharedHeader> read_shared_header(SharedMedium* medium, const SharedName& name) {
  SharedHeader out;
  TERRACE_RETURN_IF_ERROR(read_twice([&](bool again) -> Status {
    TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<SharedBytes> file,
                             open_copy(medium, name, again));
    TERRACE_ASSIGN_OR_RETURN(out, read_header(file.get(), name));
    return ok_status();
  }));
  return out;
}

Status load_shared(SharedMedium* medium, const SharedName& name, const SharedHeader& header,
                   std::span<const iovec> data) {
  return read_twice([&](bool again) { return read_data(medium, name, header, data, again); });
}

Status SharedCheck::step(uint64_t bytes_max, uint64_t* bytes) {
  return read_twice([&](bool again) { return piece(bytes_max, again, bytes); });
}

/// After damage the file is opened anew.
Status SharedCheck::piece(uint64_t bytes_max, bool again, uint64_t* bytes) {
  if (file_ == nullptr) TERRACE_RETURN_IF_ERROR(open(again, bytes));
  Status read = over() ? ok_status() : read_units(bytes_max, bytes);
  if (!read.ok()) file_.reset();
  return read;
}

Status SharedCheck::open(bool again, uint64_t* bytes) {
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<SharedBytes> file, open_copy(medium_, name_, again));
  TERRACE_ASSIGN_OR_RETURN(SharedHeader found, read_header(file.get(), name_));
  *bytes += found.bytes;
  if (!layout_ || found.header != header_.header) {  // replaced meanwhile: from its beginning
    section_ = 0;
    unit_ = 0;
  }
  layout_.emplace(found.bytes, found.header.sections);
  header_ = std::move(found);
  file_ = std::move(file);
  return ok_status();
}

/// In one read, the padding between sections too.
Status SharedCheck::read_units(uint64_t bytes_max, uint64_t* bytes) {
  const std::vector<SectionSpec>& sections = header_.header.sections;
  struct Unit {
    uint32_t section = 0;
    uint32_t unit = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  std::vector<Unit> units;
  Unit next{section_, unit_, 0, 0};
  while (next.section < sections.size()) {
    const uint64_t before = uint64_t{next.unit} * kCrcUnitBytes;
    const uint64_t of_section = sections[next.section].bytes;
    next.offset = layout_->section_offset(next.section) + before;
    next.bytes = std::min<uint64_t>(kCrcUnitBytes, of_section - before);
    const bool fits = units.empty() || next.offset + next.bytes - units[0].offset <= bytes_max;
    if (!fits) break;
    units.push_back(next);
    if (++next.unit == units_of(of_section)) next = {next.section + 1, 0, 0, 0};
  }
  const uint64_t begin = units.front().offset;
  memory_.resize(units.back().offset + units.back().bytes - begin);
  TERRACE_RETURN_IF_ERROR(read_whole(name_, file_.get(), begin, memory_));
  *bytes += memory_.size();
  for (const Unit& each : units) {
    const auto read = std::span<const std::byte>(memory_).subspan(each.offset - begin, each.bytes);
    const uint32_t crc = unit_crc(header_.header.key, each.section, each.unit, read);
    if (crc == header_.header.unit_crcs[layout_->first_unit(each.section) + each.unit]) continue;
    return damaged(name_, "section " + std::to_string(each.section) + " unit " +
                              std::to_string(each.unit) + ": checksum differs");
  }
  section_ = next.section;
  unit_ = next.unit;
  return ok_status();
}
}  // namespace terrace
