#include "snapshot/backend/numbered_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_handle.h"
#include "platform/inode_flags.h"

namespace nodesnap {

NumberedFiles::NumberedFiles(int mounted, std::string type) : mounted_(mounted), type_(std::move(type)) {}

FileDescriptor NumberedFiles::open(std::uint64_t ino, std::uint64_t generation) const {
    const auto handle = handle_of_inode(type_, ino, generation);
    if (!handle || generation == 0) {
        return {};
    }
    FileDescriptor file(std::max(try_open_handle(mounted_, *handle, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK), -1));
    try {
        const auto status = file ? std::optional(stat_fd(file.get())) : std::nullopt;
        const bool is_it = status && S_ISREG(status->stx_mode) && status->stx_ino == ino && inode_generation(file.get()) == generation;
        return is_it ? std::move(file) : FileDescriptor();
    } catch (const Error&) {
        return {};  // what can't be looked at isn't there
    }
}

}  // namespace nodesnap
