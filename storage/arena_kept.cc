// What an earlier run left with the keeper: which files are slabs of this arena, and how their
// contents become the arena's again.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "storage/arena.h"
#include "storage/arena_slab.h"

namespace terrace {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr int kReadOnlySeals = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
constexpr uint64_t kEpochMax = uint64_t{1} << 46;  // nobody makes so many slabs

uint64_t file_bytes_of(uint64_t data_bytes) {
  return slab_data_offset(data_bytes) + data_bytes;
}

/// The header of a file that cannot change its size, nor fault when it is mapped and written.
StatusOr<SlabHeader> read_header(const Fd& file) {
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals || (seals & kReadOnlySeals) != 0) {
    return error(StatusCode::kInvalidArgument, "it is no memory file with a slab's seals");
  }
  std::array<std::byte, kSlabHeaderBytes> block{};
  if (::pread(file.get(), block.data(), block.size(), 0) != static_cast<ssize_t>(block.size())) {
    return error(StatusCode::kInvalidArgument, "its header cannot be read");
  }
  TERRACE_ASSIGN_OR_RETURN(const SlabHeader header, decode_slab_header(block));
  if (header.epoch < kEpochMax) return header;
  return error(StatusCode::kDataLoss, "epoch " + std::to_string(header.epoch));
}

uint64_t size_of(const Fd& file) {
  struct stat facts {};
  return ::fstat(file.get(), &facts) == 0 ? static_cast<uint64_t>(facts.st_size) : 0;
}
}  // namespace

void Arena::refuse(KeptFile file, NotTaken why, const std::string& what) {
  ++not_kept_[static_cast<size_t>(why)];
  spdlog::log(why == NotTaken::empty ? spdlog::level::info : spdlog::level::warn,
              "event=slab_not_taken_back name={} reason={} why=\"{}\"", file.name, name_of(why),
              what);
  if (why == NotTaken::foreign) return;  // another node may be using it
  if (keeper_ != nullptr) keeper_->forget(file.name);
  refused_.push_back(std::move(file));
}

/// Without a size of the configuration that of the slabs that came back, so that they fit although
/// `dram_bytes` is another one. The last slab of an arena may be smaller: the largest counts.
uint64_t Arena::slab_bytes_for(const StoreConfig& config,
                               const std::vector<KeptFile>& files) const {
  uint64_t largest = 0;
  for (const KeptFile& file : files) {
    const StatusOr<SlabHeader> header = read_header(file.file);
    if (header.ok() && header->owner == owner_) largest = std::max(largest, header->data_bytes);
  }
  StoreConfig kept = config;
  kept.slab_bytes = largest;
  const bool usable = largest != 0 && largest <= config.dram_bytes && kept.validate().ok();
  return config.slab_bytes == 0 && usable ? largest : config.slab_size();
}

/// By slab, the file that is to be mapped there.
std::unordered_map<uint32_t, std::pair<KeptFile, SlabHeader>> Arena::fitting(
    std::vector<KeptFile> files) {
  std::unordered_map<uint32_t, std::pair<KeptFile, SlabHeader>> fit;
  for (KeptFile& file : files) {
    const StatusOr<SlabHeader> header = read_header(file.file);
    if (!header.ok()) {
      const bool alien = header.status().code() == StatusCode::kInvalidArgument;
      refuse(std::move(file), alien ? NotTaken::file : NotTaken::format,
             header.status().to_string());
      continue;
    }
    if (header->owner != owner_) {
      refuse(std::move(file), NotTaken::foreign, "it is of another data directory");
      continue;
    }
    epoch_ = std::max(epoch_, header->epoch);
    const uint64_t slab = header->first_block * ExtentMap::kBlockBytes / slab_bytes_;
    const bool fits = header->first_block <= capacity_ / ExtentMap::kBlockBytes &&
                      slab < slabs_.size() &&
                      header->first_block == slab * (slab_bytes_ / ExtentMap::kBlockBytes) &&
                      header->data_bytes == slabs_[slab]->memory.data().size();
    if (!fits) {
      refuse(std::move(file), NotTaken::geometry,
             "it has " + std::to_string(header->data_bytes) + " bytes from block " +
                 std::to_string(header->first_block) + "; slabs have " +
                 std::to_string(slab_bytes_) + " of " + std::to_string(capacity_));
      continue;
    }
    if (size_of(file.file) != file_bytes_of(header->data_bytes)) {
      refuse(std::move(file), NotTaken::file, "its size is not what its header says");
      continue;
    }
    const auto index = static_cast<uint32_t>(slab);
    if (fit.contains(index)) {
      refuse(std::move(file), NotTaken::twice, "another file has its place");
      continue;
    }
    fit.emplace(index, std::pair(std::move(file), *header));
  }
  return fit;
}

bool Arena::adopt(uint32_t index, KeptFile* file, const SlabHeader& header) {
  Slab& slab = *slabs_[index];
  Status taken = ok_status();
  if (file->name != slab_name(header.uuid)) {
    taken = error(StatusCode::kInvalidArgument, "its header is that of " + slab_name(header.uuid));
  } else {
    taken = slab.memory.adopt(&file->file, header);
  }
  if (!taken.ok()) {
    refuse(std::move(*file), NotTaken::file, taken.to_string());
    return false;
  }
  slab.epoch = header.epoch;
  slab.kept = true;
  ++kept_count_;
  return true;
}

Status Arena::map_anew(uint32_t index) {
  Slab& slab = *slabs_[index];
  slab.epoch = ++epoch_;
  TERRACE_RETURN_IF_ERROR(slab.memory.map(owner_, slab.epoch));
  offer(index);
  return ok_status();
}

Status Arena::map_slabs(std::vector<KeptFile> files) {
  auto fit = fitting(std::move(files));
  for (uint32_t index = 0; index < slabs_.size(); ++index) {
    const auto found = fit.find(index);
    if (found != fit.end() && adopt(index, &found->second.first, found->second.second)) continue;
    TERRACE_RETURN_IF_ERROR(map_anew(index));
  }
  return ok_status();
}

/// A slab that the keeper does not take is as good as any until the process ends.
void Arena::offer(uint32_t index) {
  if (keeper_ == nullptr) return;
  const SlabMemory& memory = slabs_[index]->memory;
  const Status kept = keeper_->keep(memory.name(), memory.file());
  if (kept.ok()) return;
  keep_failures_.fetch_add(1, std::memory_order_relaxed);
  spdlog::warn("event=slab_not_kept slab={} error=\"{}\"", index, kept.to_string());
}

/// Whoever maps one still must not keep the machine's memory.
void Arena::give_refused_back() {
  for (const KeptFile& file : refused_) give_memory_back(file.file, size_of(file.file));
  refused_.clear();
}

SlabDirectories Arena::kept_directories() const {
  SlabDirectories all;
  all.slab_blocks = slab_bytes_ / ExtentMap::kBlockBytes;
  for (const std::unique_ptr<Slab>& slab : slabs_) {
    all.slabs.push_back(slab->kept ? slab->memory.directory() : std::span<SlabDirectoryEntry>());
  }
  return all;
}

std::vector<uint32_t> Arena::kept() const {
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < slabs_.size(); ++i) {
    if (slabs_[i]->kept) out.push_back(i);
  }
  return out;
}

bool Arena::was_claimed(uint32_t slab) const {
  const SlabMemory& memory = slabs_[slab]->memory;
  if (memory.claim_word().load(std::memory_order_acquire) != 0) return true;
  const std::span<SlabDirectoryEntry> entries = memory.directory();  // should be zeros then
  return std::any_of(entries.begin(), entries.end(), [](const SlabDirectoryEntry& entry) {
    return entry.blocks != 0 || entry.commit.load(std::memory_order_relaxed) != 0;
  });
}

void Arena::own_kept(uint32_t index, DomainId domain) {
  Slab& slab = *slabs_[index];
  TERRACE_CHECK(slab.kept && slab.state == Slab::State::unowned && domain != kNobody);
  taken_ += slab.space.capacity_bytes();
  slab.domain = domain;
  slab.exported = true;  // perhaps, by the earlier run
  slab.memory.claim_word().store(1, std::memory_order_release);
  restore(index);
}

std::shared_ptr<ArenaSpace> Arena::take_back(DomainId domain, uint64_t bytes,
                                             std::span<const Extent> extents) {
  auto space = std::shared_ptr<ArenaSpace>(new ArenaSpace(this, domain, bytes));
  space->verified_ = false;
  uint64_t left = bytes;
  for (size_t first = 0; first < extents.size();) {
    const uint32_t index = slab_of(extents[first].block);
    size_t end = first;
    uint64_t taken = 0;
    while (end < extents.size() && slab_of(extents[end].block) == index) {
      taken += extents[end++].bytes();
    }
    // All parts but the last are whole MiBs, which is what they take.
    const uint64_t part = end == extents.size() ? left : taken;
    Slab& slab = *slabs_[index];
    const auto run = extents.subspan(first, end - first);
    const bool again = std::any_of(space->parts_.begin(), space->parts_.end(),
                                   [&](const ArenaSpace::Part& p) { return p.slab == index; });
    const bool ours = slab.kept && slab.state == Slab::State::owned && slab.domain == domain;
    if (again || !ours || part == 0 || part > left || !slab.space.claim(run, part).ok()) {
      return nullptr;  // what was taken of it so far is free again
    }
    space->extents_.insert(space->extents_.end(), run.begin(), run.end());
    space->allocated_ += taken;
    space->parts_.push_back({index, part, slab.spaces.size(), {run.begin(), run.end()}});
    slab.spaces.push_back(space.get());
    used_ += taken;
    holdings_[static_cast<uint32_t>(domain)].free -= taken;
    left -= part;
    first = end;
  }
  if (left > 0) return nullptr;
  return space;
}

Status Arena::discard_kept(uint32_t index, NotTaken why) {
  Slab& slab = *slabs_[index];
  TERRACE_CHECK(slab.kept && empty(index));
  if (slab.state == Slab::State::owned) {
    disown(index);
    taken_ -= slab.space.capacity_bytes();
    slab.state = Slab::State::unowned;
    slab.domain = kNobody;
  }
  slab.kept = false;
  slab.exported = false;
  --kept_count_;
  refuse({slab.memory.name(), slab.memory.take_file()}, why, "nothing of it was taken back");
  return map_anew(index);
}

/// The run that was killed had a device write there.
void Arena::withhold_filling(uint32_t index, SlabDirectoryEntry* entry, uint32_t block) {
  Slab& slab = *slabs_[index];
  for (uint32_t i = 0; i < entry->blocks; ++i) {
    const Extent one{block + i, 1};
    if (!slab.space.claim({&one, 1}, one.bytes()).ok()) continue;  // of an object, or outside
    slab.withheld += one.bytes();
    withheld_ += one.bytes();
    used_ += one.bytes();
    if (slab.state == Slab::State::owned) {
      holdings_[static_cast<uint32_t>(slab.domain)].free -= one.bytes();
    }
  }
  --entry->next;  // one life less
}

/// What was not taken back must not be found by the next run, when its blocks hold something else.
void Arena::clean_kept(uint32_t index) {
  const std::span<SlabDirectoryEntry> entries = slabs_[index]->memory.directory();
  const uint64_t first = index * (slab_bytes_ / ExtentMap::kBlockBytes);
  std::vector<bool> ours(entries.size(), false);
  for (const ArenaSpace* space : slabs_[index]->spaces) {
    for (const Extent& extent : space->extents_) {
      if (slab_of(extent.block) == index) ours[extent.block - first] = true;
    }
  }
  for (size_t at = 0; at < entries.size(); ++at) {
    SlabDirectoryEntry& entry = entries[at];
    if (ours[at]) continue;
    const bool committed = entry.commit.load(std::memory_order_relaxed) != 0;
    const bool filling = !committed && entry.next <= SlabDirectoryEntry::kFilling &&
                         entry.next > SlabDirectoryEntry::kFillingOver;
    if (filling && entry.blocks <= entries.size() - at) {
      withhold_filling(index, &entry, static_cast<uint32_t>(first + at));
      continue;
    }
    if (committed) entry.commit.store(0, std::memory_order_release);
    if (entry.blocks != 0) entry.blocks = 0;
    if (entry.next != 0) entry.next = 0;
  }
}

void Arena::settle_kept() {
  if (!order_.empty()) return;  // nothing had come back
  for (const uint32_t index : kept()) clean_kept(index);
  begin_work();
}
}  // namespace terrace
