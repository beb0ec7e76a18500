// File handles: a name of an inode by its number and generation, which the file system gives and opens again, whatever the inode's names
// are. Opening needs CAP_DAC_READ_SEARCH. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace nodesnap {

struct FileHandle {
    static constexpr std::size_t kBytes = 40;  // what file systems on disks need; the kernel allows more
    std::int32_t type = 0;
    std::uint8_t length = 0;
    std::array<std::byte, kBytes> bytes{};
    bool operator==(const FileHandle&) const = default;
};

// Of what is open (also with O_PATH). nullopt if the file system has none, or longer ones.
std::optional<FileHandle> handle_of(int fd, const std::string& path_for_errors = "");
// Of the inode with that number and generation (as FS_IOC_GETVERSION tells it), on a file system of which its handles are known: "ext4",
// "xfs". nullopt on others. Nothing is looked at.
std::optional<FileHandle> handle_of_inode(const std::string& file_system_type, std::uint64_t ino, std::uint64_t generation);
// `any` is any descriptor on a mount of the file system, not an O_PATH one. Returns the descriptor or a negative errno: -ESTALE if the
// inode has gone. `flags` as of open(), O_CLOEXEC is added.
int try_open_handle(int any, const FileHandle& handle, int flags) noexcept;

}  // namespace nodesnap
