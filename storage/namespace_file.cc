#include "storage/namespace_file.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "storage/durable_file.h"

namespace terrace {
namespace {
constexpr std::string_view kTag = "terrace namespaces 1\n";
constexpr size_t kFieldMax = kMiB;
constexpr size_t kFileMax = kGiB;

Status damaged(const std::string& what) {
  return error(StatusCode::kDataLoss, "namespace file: " + what);
}
}  // namespace

std::string encode_namespaces(const std::vector<NamespaceRow>& rows) {
  ByteWriter out;
  out.raw(kTag);
  out.u32(static_cast<uint32_t>(rows.size()));
  for (const NamespaceRow& row : rows) {
    out.u32(static_cast<uint32_t>(row.id));
    out.text(row.tenant);
    out.text(row.name);
    out.text(row.fingerprint);
  }
  std::string bytes = out.take();
  ByteWriter crc;
  crc.u32(crc32c(bytes));
  return bytes + crc.take();
}

StatusOr<std::vector<NamespaceRow>> decode_namespaces(std::string_view bytes) {
  if (bytes.size() < kTag.size() + 8) return damaged("cut short");
  const std::string_view body = bytes.substr(0, bytes.size() - 4);
  ByteReader crc(bytes.substr(body.size()));
  if (crc.u32() != crc32c(body)) {
    return damaged("its checksum differs");
  }
  ByteReader in(body);
  if (in.raw(kTag.size()) != kTag) return damaged("of another version");
  const uint32_t count = in.u32();
  if (count > kNamespacesMax) return damaged(std::to_string(count) + " namespaces");
  std::vector<NamespaceRow> rows;
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    NamespaceRow row;
    row.id = NamespaceId{in.u32()};
    row.tenant = in.text(kFieldMax);
    row.name = in.text(kFieldMax);
    row.fingerprint = in.text(kFieldMax);
    rows.push_back(std::move(row));
  }
  if (!in.ok() || in.left() != 0) return damaged("its rows do not add up");
  return rows;
}

Status write_namespaces(const std::string& directory, const std::vector<NamespaceRow>& rows) {
  return write_durably(directory, kNamespaceFile, encode_namespaces(rows));
}

StatusOr<std::vector<NamespaceRow>> read_namespaces(const std::string& directory) {
  TERRACE_ASSIGN_OR_RETURN(const std::string bytes,
                           read_whole(directory + "/" + kNamespaceFile, kFileMax));
  return decode_namespaces(bytes);
}
}  // namespace terrace
