// base/host.h - whether two processes share a machine, by what the kernel says of itself.
#pragma once
#include <string>

namespace terrace {

/// Names this boot of this kernel; with `network`, and the network namespace, which is where
/// abstract sockets live. Empty when /proc does not tell. Blocks for a file or two.
std::string host_identity(bool network);
}  // namespace terrace
