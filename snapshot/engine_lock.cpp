#include "snapshot/engine_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "platform/file_descriptor.h"
#include "platform/processes.h"

namespace nodesnap {
namespace {

constexpr int kFile = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;

std::string named(pid_t pid) {
    const std::string command = process_command(pid);
    return "process " + std::to_string(pid) + (command.empty() ? "" : " (" + command + ")");
}

// A lock of this process itself wouldn't be told, and closing the file would drop it; there is none.
std::string record_lock(const std::string& path) {
    const FileDescriptor file(::open(path.c_str(), kFile));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (!file || ::fcntl(file.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) {
        return "";
    }
    return "the database is open: " + path + " is locked by " +
           (lock.l_pid > 0 ? named(lock.l_pid) : "a process that isn't seen from here");
}

std::string postmaster(const std::string& path) {
    const FileDescriptor file(::open(path.c_str(), kFile));
    std::array<char, 32> text{};
    const ssize_t length = file ? ::read(file.get(), text.data(), text.size()) : 0;
    pid_t pid = 0;
    if (length <= 0 || std::from_chars(text.data(), text.data() + length, pid).ec != std::errc() || pid <= 0) {
        return "";
    }
    const std::string command = process_command(pid);
    const bool is_postgres = command.starts_with("postgres") || command.starts_with("postmaster");
    return is_postgres ? "the database is open: " + path + " names " + named(pid) : "";
}

}  // namespace

std::string engine_lock(const std::string& directory) {
    if (std::string locked = record_lock(directory + "/LOCK"); !locked.empty()) {
        return locked;
    }
    return postmaster(directory + "/postmaster.pid");
}

}  // namespace nodesnap
