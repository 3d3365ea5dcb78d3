// proto/field_count.h - looks at a serialised message without parsing it. A pure function.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace terrace {

/// How often field `number` stands at the top level of `body`. Bytes that are no message end the
/// count: the parser refuses them.
size_t count_fields(std::span<const std::byte> body, uint32_t number);
}  // namespace terrace
