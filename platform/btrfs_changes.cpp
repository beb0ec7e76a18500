#include "platform/btrfs_changes.h"

#include <endian.h>

#include <algorithm>
#include <utility>

namespace nodesnap::btrfs {
namespace {

constexpr std::uint64_t kSmallestBlock = 4096;
// An extent lies in one block group, which is at most this large. It may begin that far before what it covers.
constexpr std::uint64_t kLongestExtent = std::uint64_t{10} << 30;
constexpr std::size_t kInlineHeader = offsetof(btrfs_file_extent_item, disk_bytenr);

std::uint64_t round_up(std::uint64_t value) {
    return (value + kSmallestBlock - 1) / kSmallestBlock * kSmallestBlock;
}

// The part that all kinds of extents have; the rest of an inline one is its data.
btrfs_file_extent_item read_extent(const TreeSearch& search, const Item& item) {
    btrfs_file_extent_item from{};
    std::memcpy(&from, search.bytes(item, 0, kInlineHeader).data(), kInlineHeader);
    return from.type == BTRFS_FILE_EXTENT_INLINE ? from : search.read<btrfs_file_extent_item>(item);
}

bool same_encoding(const FileExtent& a, const FileExtent& b) {
    return a.ram_bytes == b.ram_bytes && a.compression == b.compression && a.encryption == b.encryption &&
           a.other_encoding == b.other_encoding;
}

bool same_contents(const FileExtent& a, const FileExtent& b) {
    if (a.kind != b.kind) {
        return false;
    }
    if (a.kind == FileExtent::Kind::kUnwritten) {
        return true;  // zeros, wherever they will be
    }
    if (a.kind == FileExtent::Kind::kInline) {
        return same_encoding(a, b) && a.inline_data == b.inline_data;
    }
    // Where in the file the extent would begin is compared instead of the two offsets: the item may have been split since.
    return same_extent(a, b) && a.offset - a.extent_offset == b.offset - b.extent_offset;
}

// Where the item lies that may cover `from`. Pieces don't overlap: the last one that begins there or before is the only one that can.
std::uint64_t first_offset(int subvolume, std::uint64_t ino, std::uint64_t from, const std::string& path) {
    constexpr std::size_t kSmallBuffer = std::size_t{16} << 10;
    for (const std::uint64_t before : {std::uint64_t{0}, std::uint64_t{1} << 20, std::uint64_t{64} << 20, kLongestExtent}) {
        const std::uint64_t lowest = from > before ? from - before : 0;
        TreeSearch search(subvolume, {ino, BTRFS_EXTENT_DATA_KEY, lowest}, {ino, BTRFS_EXTENT_DATA_KEY, from}, 0, path, kSmallBuffer);
        Item item;
        bool any = false;
        std::uint64_t last = 0;
        while (search.next(item)) {
            last = item.key.offset;
            any = true;
        }
        if (any) {
            return last;
        }
        if (lowest == 0) {
            break;
        }
    }
    return from;
}

}  // namespace

bool same_extent(const FileExtent& a, const FileExtent& b) {
    return a.kind == FileExtent::Kind::kData && b.kind == FileExtent::Kind::kData && same_encoding(a, b) &&
           a.disk_address == b.disk_address && a.disk_length == b.disk_length && a.generation == b.generation;
}

FileExtents::FileExtents(int subvolume, std::uint64_t ino, std::uint64_t from, const std::string& path)
    : from_(from),
      search_(subvolume, {ino, BTRFS_EXTENT_DATA_KEY, from == 0 ? 0 : first_offset(subvolume, ino, from, path)},
              {ino, BTRFS_EXTENT_DATA_KEY, UINT64_MAX}, 0, path) {}

bool FileExtents::next(FileExtent& extent) {
    Item item;
    while (search_.next(item)) {
        if (parse(item, extent) && extent.end() > from_) {
            return true;
        }
    }
    return false;
}

// False for an explicit hole.
bool FileExtents::parse(const Item& item, FileExtent& extent) const {
    const btrfs_file_extent_item from = read_extent(search_, item);
    extent.offset = item.key.offset;
    extent.generation = le64toh(from.generation);
    extent.ram_bytes = le64toh(from.ram_bytes);
    extent.compression = from.compression;
    extent.encryption = from.encryption;
    extent.other_encoding = le16toh(from.other_encoding);
    extent.inline_data.clear();
    extent.disk_address = le64toh(from.disk_bytenr);
    extent.disk_length = le64toh(from.disk_num_bytes);
    extent.extent_offset = le64toh(from.offset);
    extent.length = le64toh(from.num_bytes);
    switch (from.type) {
        case BTRFS_FILE_EXTENT_INLINE: {
            extent.kind = FileExtent::Kind::kInline;
            const auto data = search_.bytes(item, kInlineHeader, item.data.size() - kInlineHeader);
            extent.inline_data.assign(data.begin(), data.end());
            extent.length = extent.ram_bytes > UINT32_MAX ? UINT64_MAX : round_up(extent.ram_bytes);
            break;
        }
        case BTRFS_FILE_EXTENT_REG:
            extent.kind = FileExtent::Kind::kData;
            break;
        case BTRFS_FILE_EXTENT_PREALLOC:
            extent.kind = FileExtent::Kind::kUnwritten;
            break;
        default:
            search_.malformed(item.key, "extent of unknown type " + std::to_string(from.type));
    }
    if (extent.length > UINT64_MAX - extent.offset) {
        search_.malformed(item.key, "the extent ends beyond all files");
    }
    return extent.length != 0 && (extent.disk_address != 0 || extent.kind == FileExtent::Kind::kInline);
}

void FileChanges::Side::look_at(std::vector<FileExtent> extents) {
    extents_ = std::move(extents);
    current_ = 0;
}

const FileExtent* FileChanges::Side::at(std::uint64_t position) {
    while (current_ < extents_.size() && extents_[current_].end() <= position) {
        ++current_;
    }
    return current_ < extents_.size() && extents_[current_].offset <= position ? &extents_[current_] : nullptr;
}

std::uint64_t FileChanges::Side::until(std::uint64_t position) const {
    if (current_ == extents_.size()) {
        return UINT64_MAX;
    }
    return extents_[current_].offset <= position ? extents_[current_].end() : extents_[current_].offset;
}

FileChanges::FileChanges(int parent, int snapshot, std::uint64_t ino, std::uint64_t changed_from, std::uint64_t end, std::string path,
                         std::uint64_t older)
    : parent_subvolume_(parent),
      snapshot_subvolume_(snapshot),
      ino_(ino),
      path_(std::move(path)),
      changed_from_(changed_from),
      end_(end),
      older_(older) {}

// The extents from position_ on that begin in the window, which ends earlier if there are more than `limit`.
std::vector<FileExtent> FileChanges::read(int subvolume, std::size_t limit) {
    std::vector<FileExtent> found;
    FileExtents extents(subvolume, ino_, position_, path_);
    for (FileExtent extent; extents.next(extent) && extent.offset < window_end_;) {
        if (found.size() == limit) {
            window_end_ = std::min(window_end_, found.back().end());
            break;
        }
        found.push_back(std::move(extent));
    }
    return found;
}

void FileChanges::fill() {
    const bool compared = position_ < changed_from_;
    window_end_ = compared ? std::min(end_, changed_from_) : end_;
    std::vector<FileExtent> now = read(snapshot_subvolume_, kWindow);
    moved_ = false;
    if (compared) {
        parent_.look_at(read(parent_subvolume_, kWindowBefore));
        std::erase_if(now, [&](const FileExtent& extent) { return extent.offset >= window_end_; });
        moved_ = read(snapshot_subvolume_, kWindow) != now;
    }
    snapshot_.look_at(std::move(now));
}

ChangedStretch::Kind FileChanges::kind_of(const FileExtent* extent) const {
    using Kind = ChangedStretch::Kind;
    if (extent == nullptr) {
        return Kind::kHole;
    }
    if (extent->kind == FileExtent::Kind::kUnwritten) {
        return Kind::kUnwritten;
    }
    return extent->kind == FileExtent::Kind::kData && extent->generation <= older_ ? Kind::kOlderData : Kind::kData;
}

// From position_ to where something changes in one of the two.
FileChanges::Piece FileChanges::piece_at_position() {
    if (position_ >= window_end_) {
        fill();
    }
    const FileExtent* const now = snapshot_.at(position_);
    std::uint64_t until = std::min(window_end_, snapshot_.until(position_));
    bool changed = true;
    if (position_ < changed_from_) {
        const FileExtent* const before = parent_.at(position_);
        until = std::min(until, parent_.until(position_));
        changed = moved_ || (now == nullptr || before == nullptr ? now != before : !same_contents(*now, *before));
    }
    return {{kind_of(now), position_, until - position_}, changed};
}

bool FileChanges::next(ChangedStretch& stretch) {
    bool found = false;
    while (position_ < end_) {
        const auto [piece, changed] = piece_at_position();
        if (found && (!changed || piece.kind != stretch.kind)) {
            break;
        }
        if (found) {
            stretch.length += piece.length;
        } else if (changed) {
            stretch = piece;
            found = true;
        }
        position_ = piece.end();
    }
    return found;
}

}  // namespace nodesnap::btrfs
