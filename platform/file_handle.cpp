#include "platform/file_handle.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {

std::optional<FileHandle> handle_of(int fd, const std::string& path_for_errors) {
    alignas(file_handle) std::byte storage[sizeof(file_handle) + FileHandle::kBytes];
    auto* const handle = new (storage) file_handle;
    handle->handle_bytes = FileHandle::kBytes;
    int mount_id = 0;
    if (::name_to_handle_at(fd, "", handle, &mount_id, AT_EMPTY_PATH) != 0) {
        if (errno == EOPNOTSUPP || errno == EOVERFLOW) {
            return std::nullopt;
        }
        throw Error::system("get the file handle of", path_for_errors, errno);
    }
    FileHandle result;
    result.type = handle->handle_type;
    result.length = static_cast<std::uint8_t>(handle->handle_bytes);
    std::memcpy(result.bytes.data(), handle->f_handle, handle->handle_bytes);
    return result;
}

std::optional<FileHandle> handle_of_inode(const std::string& file_system_type, std::uint64_t ino, std::uint64_t generation) {
    constexpr std::int32_t kNumberAndGeneration = 1;  // FILEID_INO32_GEN of the kernel
    constexpr std::int32_t kOf64Bits = 0x80;          // XFS_FILEID_TYPE_64FLAG
    const auto number32 = static_cast<std::uint32_t>(ino);
    const auto generation32 = static_cast<std::uint32_t>(generation);
    FileHandle handle;
    const auto add = [&handle](const auto& value) {
        std::memcpy(handle.bytes.data() + handle.length, &value, sizeof(value));
        handle.length += sizeof(value);
    };
    if (generation32 != generation) {
        return std::nullopt;
    }
    if (file_system_type == "ext4" && number32 == ino) {
        handle.type = kNumberAndGeneration;
        add(number32);
    } else if (file_system_type == "xfs") {
        handle.type = kNumberAndGeneration | kOf64Bits;
        add(ino);
    } else {
        return std::nullopt;
    }
    add(generation32);
    return handle;
}

int try_open_handle(int any, const FileHandle& handle, int flags) noexcept {
    if (const int error = fault::inject("open_handle")) {
        return -error;
    }
    alignas(file_handle) std::byte storage[sizeof(file_handle) + FileHandle::kBytes];
    auto* const opened = new (storage) file_handle;
    opened->handle_bytes = std::min<unsigned>(handle.length, FileHandle::kBytes);
    opened->handle_type = handle.type;
    std::memcpy(opened->f_handle, handle.bytes.data(), opened->handle_bytes);
    int fd = -1;
    do {
        fd = ::open_by_handle_at(any, opened, flags | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

}  // namespace nodesnap
