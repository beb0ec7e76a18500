#include "snapshot/diff/contents.h"

#include <algorithm>

namespace nodesnap {
namespace {

bool has_bytes(RangeKind kind) {
    return kind == RangeKind::kData || kind == RangeKind::kDamaged;
}

// The plain bytes in block `number` of a segment of `length`.
std::uint32_t block_length(std::uint32_t number, std::uint32_t length) {
    return std::min(kChecksumBlock, length - number * kChecksumBlock);
}

bool equal_blocks(const RunPlace& before, const RunPlace& after) {
    const PackIndex& a = before.pack->index();
    const PackIndex& b = after.pack->index();
    const std::uint32_t block_a = before.from / kChecksumBlock;
    const std::uint32_t block_b = after.from / kChecksumBlock;
    return block_length(block_a, a.segment(before.segment).plain_length) == block_length(block_b, b.segment(after.segment).plain_length) &&
           a.blocks(before.segment)[block_a] == b.blocks(after.segment)[block_b];
}

}  // namespace

ContentChange ContentDiff::compare(const Inode& before, const Inode& after) {
    ContentChange result;
    switch (after.type) {
        case FileType::kRegular:
            if (before.content.empty() && after.content.empty()) {
                return compare_maps(before, after);
            }
            result.changed = before.size != after.size || before.content != after.content;
            result.bytes = result.changed ? std::max(stored_bytes(before), stored_bytes(after)) : 0;
            return result;
        case FileType::kSymlink:
            result.changed = before.content != after.content;
            result.bytes = result.changed ? std::max(before.content.size(), after.content.size()) : 0;
            return result;
        case FileType::kCharacterDevice:
        case FileType::kBlockDevice:
            result.changed = before.device_major != after.device_major || before.device_minor != after.device_minor;
            return result;
        default:
            return result;
    }
}

ContentChange ContentDiff::compare_maps(const Inode& before, const Inode& after) {
    ContentChange result;
    const std::uint64_t end = std::max(before.size, after.size);
    MapDiff maps(repository_.nodes(), places_, before, after);
    MapChange change;
    while (maps.next(change)) {
        result.incomplete |= change.before == RangeKind::kDamaged || change.after == RangeKind::kDamaged;
        if (!has_bytes(change.before) && !has_bytes(change.after)) {
            result.allocation = true;
        } else if (change.offset < end) {
            result.bytes += differing_bytes(change, std::min(change.end(), end));
        }
    }
    result.changed = before.size != after.size || result.bytes != 0;
    return result;
}

// Of the change up to file offset `end`.
std::uint64_t ContentDiff::differing_bytes(const MapChange& change, std::uint64_t end) {
    if (change.before != RangeKind::kData || change.after != RangeKind::kData) {
        return end - change.offset;
    }
    std::uint64_t bytes = 0;
    for (std::uint64_t at = change.offset; at < end;) {
        const RunPlace before = places_.find(change.run_before, at);
        const RunPlace after = places_.find(change.run_after, at);
        const auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>({before.left, after.left, end - at}));
        bytes += differing_blocks(before, after, length);
        at += length;
    }
    return bytes;
}

std::uint64_t ContentDiff::differing_blocks(const RunPlace& before, const RunPlace& after, std::uint32_t length) const {
    if (before.from % kChecksumBlock != after.from % kChecksumBlock) {
        return length;
    }
    std::uint64_t bytes = 0;
    RunPlace a = before;
    RunPlace b = after;
    while (length != 0) {
        const std::uint32_t step = std::min(length, kChecksumBlock - a.from % kChecksumBlock);
        bytes += equal_blocks(a, b) ? 0 : step;
        a.from += step;
        b.from += step;
        length -= step;
    }
    return bytes;
}

// What of the file isn't a hole.
std::uint64_t ContentDiff::stored_bytes(const Inode& inode) {
    std::uint64_t bytes = inode.content.size();
    MapDiff map(repository_.nodes(), places_, Inode{}, inode);
    MapChange change;
    while (map.next(change)) {
        if (has_bytes(change.after) && change.offset < inode.size) {
            bytes += std::min(change.end(), inode.size) - change.offset;
        }
    }
    return bytes;
}

bool ContentDiff::equal(const Xattr& before, const Xattr& after) {
    if (before.runs.empty() || after.runs.empty()) {
        return before == after;
    }
    const auto as_file = [](const Xattr& attribute) {
        Inode file;
        file.runs = attribute.runs;
        file.run_count = attribute.runs.size();
        file.size = attribute.size;
        return file;
    };
    return !compare_maps(as_file(before), as_file(after)).changed;
}

}  // namespace nodesnap
