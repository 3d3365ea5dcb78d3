// storage/namespace_file.h - the namespaces once more, beside the durable index: when that is lost,
// object headers say which namespace number each object has, and this file says whose it is.
// Written whenever a namespace is made. Blocking; any thread.
#pragma once
#include <string>
#include <vector>

#include "base/status.h"
#include "storage/metadata_store.h"

namespace terrace {

inline constexpr const char* kNamespaceFile = "NAMESPACES";
/// docs/formats.md, with a checksum over all of it.
std::string encode_namespaces(const std::vector<NamespaceRow>& rows);
/// kDataLoss: cut short, longer, or the checksum differs.
StatusOr<std::vector<NamespaceRow>> decode_namespaces(std::string_view bytes);
Status write_namespaces(const std::string& directory, const std::vector<NamespaceRow>& rows);
/// kNotFound: no namespace was ever made here.
StatusOr<std::vector<NamespaceRow>> read_namespaces(const std::string& directory);
}  // namespace terrace
