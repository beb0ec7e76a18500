#include "io/remote/frame.h"

#include <xxhash.h>

#include <string>

#include "io/little_endian.h"
#include "platform/error.h"

namespace nodesnap::remote {
namespace {

constexpr std::size_t kKindAt = 4;
constexpr std::size_t kFlagsAt = 6;
constexpr std::size_t kRequestAt = 8;
constexpr std::size_t kChecksumAt = 16;
constexpr std::size_t kNumberAt = 24;

std::uint64_t checksum_of(HeaderBytes header, std::span<const std::byte> payload, std::uint64_t place) noexcept {
    store_little_endian(header, kChecksumAt, std::uint64_t{0});
    return XXH3_64bits_withSeed(header.data(), header.size(), XXH3_64bits_withSeed(payload.data(), payload.size(), place));
}

}  // namespace

HeaderBytes encode_header(const FrameHeader& header, std::span<const std::byte> payload, std::uint64_t place) noexcept {
    HeaderBytes bytes{};
    store_little_endian(bytes, 0, static_cast<std::uint32_t>(payload.size()));
    store_little_endian(bytes, kKindAt, static_cast<std::uint16_t>(header.kind));
    store_little_endian(bytes, kFlagsAt, header.flags);
    store_little_endian(bytes, kRequestAt, header.request);
    store_little_endian(bytes, kNumberAt, header.number);
    store_little_endian(bytes, kChecksumAt, checksum_of(bytes, payload, place));
    return bytes;
}

FrameHeader decode_header(const HeaderBytes& bytes) {
    FrameHeader header;
    header.length = load_little_endian<std::uint32_t>(bytes, 0);
    header.kind = static_cast<FrameKind>(load_little_endian<std::uint16_t>(bytes, kKindAt));
    header.flags = load_little_endian<std::uint16_t>(bytes, kFlagsAt);
    header.request = load_little_endian<std::uint64_t>(bytes, kRequestAt);
    header.number = load_little_endian<std::uint64_t>(bytes, kNumberAt);
    if (header.length > kMaxPayload) {
        throw Error::failed("a frame of " + std::to_string(header.length) + " bytes was announced, where " + std::to_string(kMaxPayload) +
                            " are the most");
    }
    return header;
}

bool fits(const HeaderBytes& bytes, std::span<const std::byte> payload, std::uint64_t place) noexcept {
    return checksum_of(bytes, payload, place) == load_little_endian<std::uint64_t>(bytes, kChecksumAt);
}

}  // namespace nodesnap::remote
