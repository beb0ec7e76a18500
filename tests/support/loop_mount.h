// LoopMount: a file system of its own for a test, in a sparse image on a loop device; unmounted, detached and removed by the destructor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nodesnap::test {

// A fresh directory under $TMPDIR (or /tmp), removed with all that is in it by the destructor.
class ScratchDirectory {
public:
    explicit ScratchDirectory(const std::string& name = "nodesnap-test");
    ~ScratchDirectory();
    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

class LoopMount {
public:
    // `type`: btrfs, ext4 or xfs. Throws std::runtime_error with the tool's message.
    explicit LoopMount(const std::string& type, std::uint64_t bytes = std::uint64_t{512} << 20, std::vector<std::string> mkfs_options = {},
                       const std::string& mount_options = "");
    ~LoopMount();
    LoopMount(const LoopMount&) = delete;
    LoopMount& operator=(const LoopMount&) = delete;

    // Why there can be no loop mounts here (not root, no loop devices, no mkfs); "" if there can.
    static std::string unavailable(const std::string& type);

    const std::string& path() const { return path_; }      // mount point
    const std::string& device() const { return device_; }  // "/dev/loop3"
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    // Mounts the same device a second time, with options such as "subvol=a"; unmounted by the destructor.
    std::string mount_again(const std::string& options);
    void remount(const std::string& options);  // such as "ro"

private:
    void clean_up() noexcept;

    ScratchDirectory scratch_;
    std::string path_;
    std::string device_;
    std::vector<std::string> mounts_;
};

// Runs a program without a shell, throws std::runtime_error with its stderr unless it ends with 0; returns its stdout.
std::string run(const std::vector<std::string>& command);

}  // namespace nodesnap::test

// Ends the test, with the reason, where loop mounts can't be had.
#define NODESNAP_NEEDS_LOOP_MOUNT(type)                                         \
    do {                                                                        \
        const std::string why = ::nodesnap::test::LoopMount::unavailable(type); \
        if (!why.empty()) {                                                     \
            GTEST_SKIP() << why;                                                \
        }                                                                       \
    } while (false)
