// The trailer of a pack: the block that tells where its footers are. See docs/format.md, "Packs".
#pragma once

#include <cstdint>
#include <span>

#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack.h"

namespace nodesnap {

inline constexpr std::uint32_t kFooterMagic = four_letters("FOOT");
inline constexpr std::size_t kTrailerBytes = 4096;
// Head, an empty footer twice, both trailers.
inline constexpr std::uint64_t kSmallestPack = 5 * kPackAlignment;
inline constexpr std::uint64_t kPackSizeLimit = 64ULL << 30;

struct PackTrailer {
    ObjectHeader header;
    std::uint64_t pack_length = 0;
    std::uint64_t first_footer = 0;
    std::uint64_t second_footer = 0;
    std::uint64_t footer_length = 0;  // as stored, outer part included
    Checksum footer_checksum;         // as stored
    bool operator==(const PackTrailer&) const = default;
};

void encode_trailer(const PackTrailer& trailer, ObjectKind pack_kind, std::span<std::byte, kTrailerBytes> into);
// Checks it against what its place says it must be; `pack_length` is the object's size.
Parsed<PackTrailer> parse_trailer(std::span<const std::byte> block, const Uuid& repository, layout::PackKind kind, const PackId& id,
                                  std::uint32_t generation, std::uint64_t pack_length);

}  // namespace nodesnap
