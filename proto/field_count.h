// proto/field_count.h - looks at a serialised message without parsing it. A pure function.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace terrace {

/// How often field `number` stands at the top level of `body`. Bytes that are no message end the
/// count: the parser refuses them. More than any limit when there is a group in it: no message of
/// ours has one.
size_t count_fields(std::span<const std::byte> body, uint32_t number);
}  // namespace terrace
