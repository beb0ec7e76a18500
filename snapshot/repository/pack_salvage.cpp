#include "snapshot/repository/pack_salvage.h"

#include <algorithm>
#include <cerrno>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kBlock = 4096;

// False if the device failed.
bool try_read(ObjectReader& reader, std::span<std::byte> into, std::uint64_t offset) {
    try {
        reader.read(into, offset);
        return true;
    } catch (const Error& error) {
        if (!is_media_error(error.error_number())) {
            throw;
        }
        return false;
    }
}

}  // namespace

// EUCLEAN and EBADMSG: file systems with checksums of their own.
bool is_media_error(int error_number) {
    return error_number == EIO || error_number == EUCLEAN || error_number == EBADMSG || error_number == EILSEQ || error_number == EREMOTEIO;
}

void salvaging_read(ObjectReader& reader, std::span<std::byte> into, std::uint64_t offset) {
    if (try_read(reader, into, offset)) {
        return;
    }
    while (!into.empty()) {
        const std::uint64_t in_block = kBlock - offset % kBlock;
        const auto piece = into.first(std::min<std::uint64_t>(in_block, into.size()));
        if (!try_read(reader, piece, offset)) {
            std::fill(piece.begin(), piece.end(), std::byte{0});
        }
        into = into.subspan(piece.size());
        offset += piece.size();
    }
}

}  // namespace nodesnap
