#include "snapshot/repository/pack_salvage.h"

#include <algorithm>

namespace nodesnap {
namespace {

constexpr std::uint64_t kBlock = 4096;

// 0, or the device's error.
int try_read(ObjectReader& reader, std::span<std::byte> into, std::uint64_t offset) {
    try {
        reader.read(into, offset);
        return 0;
    } catch (const Error& error) {
        if (!is_media_error(error.error_number())) {
            throw;
        }
        return error.error_number();
    }
}

}  // namespace

int salvaging_read(ObjectReader& reader, std::span<std::byte> into, std::uint64_t offset) {
    if (try_read(reader, into, offset) == 0) {
        return 0;
    }
    int first_error = 0;
    while (!into.empty()) {
        const std::uint64_t in_block = kBlock - offset % kBlock;
        const auto piece = into.first(std::min<std::uint64_t>(in_block, into.size()));
        if (const int error = try_read(reader, piece, offset)) {
            std::fill(piece.begin(), piece.end(), std::byte{0});
            first_error = first_error != 0 ? first_error : error;
        }
        into = into.subspan(piece.size());
        offset += piece.size();
    }
    return first_error;
}

}  // namespace nodesnap
