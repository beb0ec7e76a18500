#include "platform/directory_stream.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

// struct linux_dirent64: d_ino (8), d_off (8), d_reclen (2), d_type (1), d_name (zero-terminated). Not in any header.
constexpr std::size_t kOffsetAt = 8;
constexpr std::size_t kLengthAt = 16;
constexpr std::size_t kTypeAt = 18;
constexpr std::size_t kNameAt = 19;

template <typename T>
T load(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

}  // namespace

DirectoryStream::DirectoryStream(FileDescriptor directory, std::string path)
    : directory_(std::move(directory)), path_(std::move(path)), buffer_(kBufferBytes) {}

bool DirectoryStream::fill() {
    const int injected = fault::inject("getdents");
    long count = -1;
    do {
        count = injected != 0 ? -1 : ::syscall(SYS_getdents64, directory_.get(), buffer_.data(), buffer_.size());
    } while (count < 0 && injected == 0 && errno == EINTR);  // some file systems are interrupted (FUSE, NFS)
    if (count < 0) {
        throw Error::system("read directory", path_, injected != 0 ? injected : errno);
    }
    position_ = 0;
    filled_ = static_cast<std::size_t>(count);
    return count > 0;
}

bool DirectoryStream::next(DirectoryEntry& entry) {
    for (;;) {
        if (position_ >= filled_ && !fill()) {
            return false;
        }
        const std::byte* record = buffer_.data() + position_;
        position_ += load<std::uint16_t>(record + kLengthAt);
        cookie_ = load<std::int64_t>(record + kOffsetAt);
        const char* name = reinterpret_cast<const char*>(record + kNameAt);
        if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) {
            continue;
        }
        entry.name = name;
        entry.ino = load<std::uint64_t>(record);
        entry.d_type = load<std::uint8_t>(record + kTypeAt);
        return true;
    }
}

void DirectoryStream::seek(std::int64_t cookie) {
    if (::lseek(directory_.get(), cookie, SEEK_SET) < 0) {
        throw Error::system("seek in directory", path_, errno);
    }
    position_ = filled_ = 0;
    cookie_ = cookie;
}

}  // namespace nodesnap
