#include "platform/presence.h"

#include <fcntl.h>

#include <utility>

namespace nodesnap {
namespace {

struct flock lock_of(short type, std::int64_t byte) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return lock;
}

}  // namespace

std::optional<Presence> Presence::declare(const std::string& directory, std::uint64_t number) noexcept {
    constexpr std::uint64_t kBytes = std::uint64_t{1} << 62;
    const auto byte = static_cast<std::int64_t>(number % kBytes);
    FileDescriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct flock shared = lock_of(F_RDLCK, byte);
    if (!opened || ::fcntl(opened.get(), F_OFD_SETLK, &shared) != 0) {
        return std::nullopt;
    }
    return Presence(std::move(opened), byte);
}

bool Presence::others() const noexcept {
    struct flock all = lock_of(F_WRLCK, byte_);
    return ::fcntl(directory_.get(), F_OFD_GETLK, &all) != 0 || all.l_type != F_UNLCK;
}

}  // namespace nodesnap
