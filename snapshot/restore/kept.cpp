#include "snapshot/restore/kept.h"

#include <algorithm>
#include <cstring>

#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kPage = 4096;

bool read_all(int fd, std::span<std::byte> into, std::uint64_t offset, const std::string& path) {
    try {
        return pread_some(fd, into, offset, path) == into.size();
    } catch (const Error&) {
        return false;  // what can't be read can't be kept
    }
}

// Of the file from `offset` on: up to where a page can't be read; nothing if that is the first.
std::vector<std::byte> read_as_far(int fd, std::uint64_t offset, std::uint64_t end, const std::string& path) {
    std::vector<std::byte> bytes(end - offset);
    if (read_all(fd, bytes, offset, path)) {
        return bytes;
    }
    std::uint64_t at = offset;
    while (at < end) {
        const auto next = std::min(end, (at / kPage + 1) * kPage);
        if (!read_all(fd, std::span(bytes).subspan(at - offset, next - at), at, path)) {
            break;
        }
        at = next;
    }
    bytes.resize(at - offset);
    return bytes;
}

}  // namespace

void take_present(RestoreLost& lost, const std::string& path, int fd, const LostPlace& place, std::vector<KeptBytes>& kept) {
    const auto end = place.offset + place.length;
    for (auto at = place.offset; at < end;) {
        const auto data = fd < 0 ? DataStretch{end, end} : next_data(fd, at, end, path);
        if (at < data.begin) {
            lost.add(path, LostRange::Cause::kStored, at, data.begin - at);
            at = data.begin;
            continue;
        }
        auto bytes = read_as_far(fd, at, data.end, path);
        if (bytes.empty()) {
            const auto page_end = std::min(end, (at / kPage + 1) * kPage);
            lost.add(path, LostRange::Cause::kStored, at, page_end - at);
            at = page_end;
            continue;
        }
        lost.add(path, LostRange::Cause::kKept, at, bytes.size());
        const auto begin = at;
        at += bytes.size();
        kept.push_back({place.file, begin, std::move(bytes)});
    }
}

bool covers(const std::vector<KeptBytes>& kept, const Piece& piece) {
    std::uint64_t bytes = 0;
    for (const auto& part : kept) {
        const auto begin = std::max(part.offset, piece.file_offset);
        const auto end = std::min(part.offset + part.bytes.size(), piece.file_offset + piece.length);
        bytes += part.file == piece.file && begin < end ? end - begin : 0;
    }
    return bytes == piece.length;
}

void put_kept(const std::vector<KeptBytes>& kept, const Piece& piece, std::span<std::byte> data) {
    for (const auto& part : kept) {
        const auto begin = std::max(part.offset, piece.file_offset);
        const auto end = std::min(part.offset + part.bytes.size(), piece.file_offset + piece.length);
        if (part.file == piece.file && begin < end) {
            std::memcpy(data.data() + (begin - piece.file_offset), part.bytes.data() + (begin - part.offset), end - begin);
        }
    }
}

}  // namespace nodesnap
