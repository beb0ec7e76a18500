// The inner part of a pack's footer: PackIndex to FlatBuffer and back. See docs/format.md, "Packs".
#pragma once

#include <cstdint>
#include <span>

#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack.h"

namespace nodesnap {

class PackFooter {
public:
    static Bytes encode(const PackIndex& index);
    // Checks everything that a reader relies on: lengths of lists, order, bounds (segments lie in [4096, segments_end)), limits.
    static Parsed<PackIndex> parse(std::span<const std::byte> inner, layout::PackKind kind, const PackId& id, std::uint32_t generation,
                                   std::uint64_t segments_end);
};

ObjectKind object_kind(layout::PackKind kind);

}  // namespace nodesnap
