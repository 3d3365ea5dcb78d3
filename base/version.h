// base/version.h - which build this is.
#pragma once

namespace terrace {
inline constexpr char kVersion[] = "0.1.0";
}
