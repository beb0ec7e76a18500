#include "platform/xattr.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include <cerrno>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"

namespace nodesnap::xattr {
namespace {

using Value = std::vector<std::byte>;

bool no_attributes_here(int error) {
    return error == EOPNOTSUPP || error == ENOSYS;
}

// Calls `read(buffer, size)` with room that grows until the result fits; the kernel allows at most 64 KiB. Returns an errno, 0 if done.
template <typename Read>
int read_growing(Value& into, Read read) {
    for (std::size_t room = 1024;; room = XATTR_SIZE_MAX) {
        into.resize(room);
        if (const int injected = fault::inject("getxattr")) {
            return injected;
        }
        const ssize_t length = read(into.data(), room);
        if (length >= 0) {
            into.resize(static_cast<std::size_t>(length));
            return 0;
        }
        if (errno != ERANGE || room == XATTR_SIZE_MAX) {
            return errno;
        }
    }
}

std::vector<std::string> split_names(const Value& text) {
    std::vector<std::string> names;
    const char* cursor = reinterpret_cast<const char*>(text.data());
    const char* const end = cursor + text.size();
    while (cursor < end) {
        names.emplace_back(cursor);  // each is zero-terminated
        cursor += names.back().size() + 1;
    }
    return names;
}

template <typename Read>
std::vector<std::string> list_with(Read read, const std::string& path) {
    Value text;
    const int error = read_growing(text, read);
    if (no_attributes_here(error)) {
        return {};
    }
    if (error != 0) {
        throw Error::system("list extended attributes of", path, error);
    }
    return split_names(text);
}

template <typename Read>
std::optional<Value> get_with(Read read, const std::string& name, const std::string& path) {
    Value value;
    const int error = read_growing(value, read);
    if (error == ENODATA || no_attributes_here(error)) {
        return std::nullopt;
    }
    if (error != 0) {
        throw Error::system("read the extended attribute " + name + " of", path, error);
    }
    return value;
}

template <typename Write>
void set_with(Write write, const std::string& name, const std::string& path) {
    int error = fault::inject("setxattr");
    if (error == 0 && write() != 0) {
        error = errno;
    }
    if (error != 0) {
        throw Error::system("set the extended attribute " + name + " of", path, error);
    }
}

template <typename Remove>
bool remove_with(Remove remove, const std::string& name, const std::string& path) {
    int error = fault::inject("removexattr");
    if (error == 0 && remove() != 0) {
        error = errno;
    }
    if (error == ENODATA || no_attributes_here(error)) {
        return false;
    }
    if (error != 0) {
        throw Error::system("remove the extended attribute " + name + " of", path, error);
    }
    return true;
}

// The link of an O_PATH descriptor is followed to the file itself and no further, so that a symlink's own attributes are reached.
std::string proc_path(int fd) {
    return "/proc/self/fd/" + std::to_string(fd);
}

FileDescriptor open_entry(int directory, const std::string& file) {
    return open_at(directory, file, O_PATH | O_NOFOLLOW);
}

}  // namespace

std::vector<std::string> list(int fd, const std::string& path_for_errors) {
    return list_with([&](void* buffer, std::size_t room) { return ::flistxattr(fd, static_cast<char*>(buffer), room); }, path_for_errors);
}

std::optional<Value> get(int fd, const std::string& name, const std::string& path_for_errors) {
    return get_with([&](void* buffer, std::size_t room) { return ::fgetxattr(fd, name.c_str(), buffer, room); }, name, path_for_errors);
}

void set(int fd, const std::string& name, std::span<const std::byte> value, const std::string& path_for_errors) {
    set_with([&] { return ::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0); }, name, path_for_errors);
}

bool remove(int fd, const std::string& name, const std::string& path_for_errors) {
    return remove_with([&] { return ::fremovexattr(fd, name.c_str()); }, name, path_for_errors);
}

std::vector<std::string> list_at(int directory, const std::string& file) {
    return list_o_path(open_entry(directory, file).get(), file);
}

// Without opening it, since whole trees are asked so.
std::optional<Value> get_at(int directory, const std::string& file, const std::string& name) {
    const std::string path = directory == AT_FDCWD || file.starts_with('/') ? file : proc_path(directory) + "/" + file;
    return get_with([&](void* buffer, std::size_t room) { return ::lgetxattr(path.c_str(), name.c_str(), buffer, room); }, name, file);
}

void set_at(int directory, const std::string& file, const std::string& name, std::span<const std::byte> value) {
    set_o_path(open_entry(directory, file).get(), name, value, file);
}

bool remove_at(int directory, const std::string& file, const std::string& name) {
    const FileDescriptor entry = open_entry(directory, file);
    return remove_with([&] { return ::removexattr(proc_path(entry.get()).c_str(), name.c_str()); }, name, file);
}

std::vector<std::string> list_o_path(int o_path_fd, const std::string& path_for_errors) {
    const std::string proc = proc_path(o_path_fd);
    return list_with([&](void* buffer, std::size_t room) { return ::listxattr(proc.c_str(), static_cast<char*>(buffer), room); },
                     path_for_errors);
}

std::optional<Value> get_o_path(int o_path_fd, const std::string& name, const std::string& path_for_errors) {
    const std::string proc = proc_path(o_path_fd);
    return get_with([&](void* buffer, std::size_t room) { return ::getxattr(proc.c_str(), name.c_str(), buffer, room); }, name,
                    path_for_errors);
}

void set_o_path(int o_path_fd, const std::string& name, std::span<const std::byte> value, const std::string& path_for_errors) {
    const std::string proc = proc_path(o_path_fd);
    set_with([&] { return ::setxattr(proc.c_str(), name.c_str(), value.data(), value.size(), 0); }, name, path_for_errors);
}

}  // namespace nodesnap::xattr
