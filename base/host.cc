#include "base/host.h"

#include <sys/stat.h>

#include <fstream>

namespace terrace {

std::string host_identity(bool network) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string identity;
  if (!std::getline(file, identity) || !network) return identity;
  struct stat space {};
  if (::stat("/proc/self/ns/net", &space) != 0) return {};
  return identity + "/" + std::to_string(space.st_ino);
}
}  // namespace terrace
