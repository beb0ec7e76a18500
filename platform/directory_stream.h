// DirectoryStream: the entries of one directory, read with getdents64 through a buffer of 64 KiB; "." and ".." are left out.
//
// cookie() after an entry names the position behind it; seek(cookie) on another stream of the same directory goes on there, so that a walk
// of any depth needs few open descriptors. Cookies are valid as long as the directory isn't changed. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"

namespace nodesnap {

struct DirectoryEntry {
    std::string name;
    std::uint64_t ino = 0;
    std::uint8_t d_type = 0;  // DT_REG ..., or DT_UNKNOWN
};

class DirectoryStream {
public:
    static constexpr std::size_t kBufferBytes = 64 * 1024;

    // Takes a descriptor of a directory, opened for reading; its position moves. `path` is for errors.
    DirectoryStream(FileDescriptor directory, std::string path);

    bool next(DirectoryEntry& entry);  // false at the end; throws Error
    std::int64_t cookie() const noexcept { return cookie_; }
    void seek(std::int64_t cookie);
    int fd() const noexcept { return directory_.get(); }

private:
    bool fill();

    FileDescriptor directory_;
    std::string path_;
    std::vector<std::byte> buffer_;
    std::size_t position_ = 0;
    std::size_t filled_ = 0;
    std::int64_t cookie_ = 0;
};

}  // namespace nodesnap
