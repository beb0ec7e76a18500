// Frames: what goes over the connection between a nodesnap and the `nodesnap serve` of another host. See docs/format.md, "The connection to
// another host".
//
// A frame is a header of 32 bytes and a payload. Its checksum (XXH3-64 of the header, seeded by that of the payload) is seeded by its
// number on the connection, so that one which is lost, doubled or out of its place doesn't fit. It finds accidents of the two programs and
// their memory; ssh guards the bytes on the way.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace nodesnap::remote {

inline constexpr std::size_t kFrameHeaderBytes = 32;
inline constexpr std::size_t kMaxPayload = (std::size_t{1} << 20) + (std::size_t{64} << 10);
inline constexpr std::size_t kPiece = std::size_t{1} << 20;             // of an object's data in one frame, at most
inline constexpr std::uint64_t kWriteCredit = std::uint64_t{16} << 20;  // bytes of `write` that a server takes before it has stored them

enum class FrameKind : std::uint16_t {
    kAlive = 0,  // says nothing else
    // Asked by the client.
    kHello = 1,
    kState,
    kCreate,
    kSwap,
    kRemove,
    kPersist,
    kLoad,
    kLoadSalvaging,
    kList,
    kMore,  // pages of a list
    kUnfinished,
    kGiveUp,
    kContent,  // the beginning of what is too large for one `create` or `swap`
    kBegin,
    kWrite,
    kFinish,
    kDrop,
    kOpen,
    kRead,
    kClose,
    kRun,
    // Said by the server.
    kAnswer = 64,  // the last frame for a request
    kPart,         // there are more
    kError,        // the last one, too
    kCredit,
    // Between a coordinator and the agents of a cluster, in both directions: JSON.
    kSay = 96,
};

// All numbers are little-endian on the way.
struct FrameHeader {
    std::uint32_t length = 0;  // of the payload, in bytes
    FrameKind kind = FrameKind::kAlive;
    std::uint16_t flags = 0;    // none yet; zero
    std::uint64_t request = 0;  // counted by the client from 1; 0: of the connection itself
    std::uint64_t number = 0;   // of the kind
};

using HeaderBytes = std::array<std::byte, kFrameHeaderBytes>;

// `place`: how many frames went before it in this direction.
HeaderBytes encode_header(const FrameHeader& header, std::span<const std::byte> payload, std::uint64_t place) noexcept;
// Error::failed if it announces more than a frame may have. Doesn't look at the checksum, which needs the payload.
FrameHeader decode_header(const HeaderBytes& bytes);
bool fits(const HeaderBytes& bytes, std::span<const std::byte> payload, std::uint64_t place) noexcept;

}  // namespace nodesnap::remote
