#include "io/target/paced_write.h"

#include <algorithm>

#include "io/transfer.h"

namespace nodesnap {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

}  // namespace

Task<void> write_paced(Ring& ring, ObjectWriter& writer, std::span<const std::byte> data, std::uint64_t offset, Throttle& throttle) {
    while (!data.empty()) {
        const auto piece = data.first(std::min({data.size(), kPiece, throttle.smooth_bytes()}));
        co_await pace(ring, throttle, piece.size());
        co_await writer.write(ring, piece, offset);
        offset += piece.size();
        data = data.subspan(piece.size());
    }
}

}  // namespace nodesnap
