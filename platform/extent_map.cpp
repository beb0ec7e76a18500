#include "platform/extent_map.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

std::uint32_t translate_flags(std::uint32_t fiemap_flags) {
    static constexpr std::pair<std::uint32_t, std::uint32_t> kTable[] = {
        {FIEMAP_EXTENT_UNWRITTEN, Extent::kUnwritten},
        {FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_DATA_TAIL, Extent::kInline},
        {FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_ENCRYPTED, Extent::kEncoded},
        {FIEMAP_EXTENT_DELALLOC, Extent::kDelalloc},
        {FIEMAP_EXTENT_UNKNOWN, Extent::kUnknown},
        {FIEMAP_EXTENT_SHARED, Extent::kShared},
    };
    std::uint32_t flags = 0;
    for (const auto& [from, to] : kTable) {
        if ((fiemap_flags & from) != 0) {
            flags |= to;
        }
    }
    return flags;
}

std::uint64_t file_size(int fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        throw Error::system("stat", path, errno);
    }
    return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

ExtentReader::ExtentReader(int fd, std::string path, std::uint64_t start, std::uint64_t end)
    : fd_(fd),
      path_(std::move(path)),
      position_(start),
      end_(std::min<std::uint64_t>(end, FIEMAP_MAX_OFFSET)),
      buffer_((sizeof(fiemap) + kBatch * sizeof(fiemap_extent)) / 8) {
    static_assert(sizeof(fiemap) % 8 == 0 && sizeof(fiemap_extent) % 8 == 0);
}

bool ExtentReader::fill() {
    batch_.clear();
    taken_ = 0;
    if (position_ >= end_) {
        last_ = true;
        return true;
    }
    std::memset(buffer_.data(), 0, sizeof(fiemap));
    auto* const map = reinterpret_cast<fiemap*>(buffer_.data());
    map->fm_start = position_;
    map->fm_length = end_ - position_;
    map->fm_extent_count = kBatch;
    map->fm_flags = synced_ ? 0 : FIEMAP_FLAG_SYNC;  // else data that was never synced looks unwritten
    synced_ = true;
    int error = fault::inject("fiemap");
    if (error == 0 && ::ioctl(fd_, FS_IOC_FIEMAP, map) != 0) {
        error = errno;
    }
    if (error == ENOTTY || error == EOPNOTSUPP || error == ENOSYS) {
        method_ = Method::kSeek;
        return false;
    }
    if (error != 0) {
        throw Error::system("read the extent map of", path_, error);
    }
    last_ = map->fm_mapped_extents < kBatch;
    for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
        const fiemap_extent& from = map->fm_extents[i];
        if ((from.fe_flags & FIEMAP_EXTENT_LAST) != 0) {
            last_ = true;
        }
        if (from.fe_length != 0 && from.fe_logical + from.fe_length > position_) {
            batch_.push_back({from.fe_logical, from.fe_physical, from.fe_length, translate_flags(from.fe_flags)});
            position_ = from.fe_logical + from.fe_length;
        }
    }
    // A full batch that brings nothing new would be asked for again for ever.
    last_ = last_ || batch_.empty();
    return true;
}

bool ExtentReader::next(Extent& extent) {
    while (method_ == Method::kFiemap) {
        if (taken_ < batch_.size()) {
            extent = batch_[taken_++];
            return true;
        }
        if (last_) {
            return false;
        }
        fill();
    }
    return method_ == Method::kSeek ? next_by_seek(extent) : next_whole(extent);
}

bool ExtentReader::next_by_seek(Extent& extent) {
    if (last_) {
        return false;
    }
    const off_t data = ::lseek(fd_, static_cast<off_t>(position_), SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
        last_ = true;
        return false;
    }
    if (data < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
        method_ = Method::kWhole;
        return next_whole(extent);
    }
    const off_t hole = data < 0 ? -1 : ::lseek(fd_, data, SEEK_HOLE);
    if (hole < 0) {
        throw Error::system("find the holes of", path_, errno);
    }
    extent = {static_cast<std::uint64_t>(data), 0, static_cast<std::uint64_t>(hole - data), Extent::kUnknown};
    position_ = static_cast<std::uint64_t>(hole);
    last_ = hole <= data;  // can't be; but never stand still
    return !last_;
}

bool ExtentReader::next_whole(Extent& extent) {
    const std::uint64_t size = file_size(fd_, path_);
    if (last_ || position_ >= size) {
        return false;
    }
    extent = {position_, 0, size - position_, Extent::kUnknown};
    last_ = true;
    return true;
}

DataStretch next_data(int fd, std::uint64_t begin, std::uint64_t end, const std::string& path) {
    const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
    if (data < 0 && errno != ENXIO) {
        throw Error::system("look for data in", path, errno);
    }
    if (data < 0 || static_cast<std::uint64_t>(data) >= end) {
        return {end, end};
    }
    const off_t hole = ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0) {
        throw Error::system("look for holes in", path, errno);
    }
    return {static_cast<std::uint64_t>(data), std::min(static_cast<std::uint64_t>(hole), end)};
}

}  // namespace nodesnap
