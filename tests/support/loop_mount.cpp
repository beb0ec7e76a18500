#include "tests/support/loop_mount.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <stdexcept>

extern char** environ;

namespace nodesnap::test {
namespace {

namespace fs = std::filesystem;

std::string read_back(int fd) {
    std::string text(1 << 20, '\0');
    const ssize_t length = ::pread(fd, text.data(), text.size(), 0);
    text.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
    return text;
}

int memory_file() {
    std::string path = fs::temp_directory_path() / "nodesnap-run-XXXXXX";
    const int fd = ::mkostemp(path.data(), O_CLOEXEC);
    if (fd < 0) {
        throw std::runtime_error("cannot create " + path);
    }
    ::unlink(path.c_str());
    return fd;
}

std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

bool found_in_path(const std::string& program) {
    for (const char* directory : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
        if (::access((directory + program).c_str(), X_OK) == 0) {
            return true;
        }
    }
    return false;
}

}  // namespace

std::string run(const std::vector<std::string>& command) {
    const int out = memory_file();
    const int err = memory_file();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, err, 2);
    std::vector<char*> arguments;
    for (const std::string& argument : command) {
        arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    // /usr/sbin isn't on everybody's PATH, the mkfs programs are there.
    const char* const old_path = std::getenv("PATH");
    ::setenv("PATH", (std::string("/usr/sbin:/sbin:") + (old_path != nullptr ? old_path : "/usr/bin:/bin")).c_str(), 1);
    pid_t pid = 0;
    const int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    int status = -1;
    if (error == 0) {
        while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    }
    const std::string output = read_back(out);
    const std::string errors = error != 0 ? std::strerror(error) : read_back(err);
    ::close(out);
    ::close(err);
    if (error != 0 || status != 0) {
        throw std::runtime_error(command[0] + ": " + trimmed(errors + output));
    }
    return output;
}

ScratchDirectory::ScratchDirectory(const std::string& name) {
    std::string path = fs::temp_directory_path() / (name + "-XXXXXX");
    if (::mkdtemp(path.data()) == nullptr) {
        throw std::runtime_error("cannot make " + path);
    }
    path_ = fs::canonical(path);
}

ScratchDirectory::~ScratchDirectory() {
    std::error_code error;
    fs::remove_all(path_, error);
    if (error) {
        std::cerr << "cannot remove " << path_ << ": " << error.message() << '\n';
    }
}

std::string LoopMount::unavailable(const std::string& type) {
    if (::geteuid() != 0) {
        return "needs root to mount " + type + " on a loop device";
    }
    if (::access("/dev/loop-control", F_OK) != 0) {
        return "there are no loop devices";
    }
    return found_in_path("mkfs." + type) ? "" : "there is no mkfs." + type;
}

LoopMount::LoopMount(const std::string& type, std::uint64_t bytes, std::vector<std::string> mkfs_options, const std::string& mount_options)
    : scratch_("nodesnap-" + type), path_(scratch_ / "mount") {
    const std::string image = scratch_ / "image";
    try {
        fs::create_directory(path_);
        const int fd = ::open(image.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
            throw std::runtime_error("cannot create " + image);
        }
        ::close(fd);
        std::vector<std::string> command{"mkfs." + type, type == "ext4" ? "-qF" : "-qf"};
        command.insert(command.end(), mkfs_options.begin(), mkfs_options.end());
        command.push_back(image);
        run(command);
        device_ = trimmed(run({"losetup", "--find", "--show", image}));
        mounts_.push_back(path_);
        run({"mount", "-t", type, "-o", mount_options.empty() ? "defaults" : mount_options, device_, path_});
    } catch (...) {
        clean_up();
        throw;
    }
}

LoopMount::~LoopMount() {
    clean_up();
}

std::string LoopMount::mount_again(const std::string& options) {
    const std::string where = scratch_ / ("mount" + std::to_string(mounts_.size()));
    fs::create_directory(where);
    run({"mount", "-o", options, device_, where});
    mounts_.push_back(where);
    return where;
}

void LoopMount::remount(const std::string& options) {
    run({"mount", "-o", "remount," + options, path_});
}

void LoopMount::clean_up() noexcept {
    // Each step on its own: what fails is told and must not keep the others from being done.
    const auto attempt = [](const std::vector<std::string>& command) {
        try {
            run(command);
            return true;
        } catch (const std::exception& error) {
            std::cerr << "cleaning up: " << error.what() << '\n';
            return false;
        }
    };
    for (; !mounts_.empty(); mounts_.pop_back()) {
        // What a failed test left mounted below goes too; what is still in use goes when it is closed.
        if (::access(mounts_.back().c_str(), F_OK) == 0 && !attempt({"umount", "--recursive", mounts_.back()})) {
            attempt({"umount", "--recursive", "--lazy", mounts_.back()});
        }
    }
    if (!device_.empty()) {
        attempt({"losetup", "--detach", device_});
        device_.clear();
    }
}

}  // namespace nodesnap::test
