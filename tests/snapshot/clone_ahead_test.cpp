// Clones that are made before the daemon is held: which of them are kept, on real file systems, whatever changes meanwhile.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/xattr.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backend/clone_origin.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

std::string read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

void overwrite(const std::string& path, const std::string& content) {
    const FileDescriptor file = open_path(path, O_RDWR);
    const FileStatus before = stat_fd(file.get());
    pwrite_all(file.get(), std::as_bytes(std::span(content)), 0, path);
    const timespec times[2] = {{before.stx_atime.tv_sec, before.stx_atime.tv_nsec}, {before.stx_mtime.tv_sec, before.stx_mtime.tv_nsec}};
    ::futimens(file.get(), times);  // a modification time proves nothing
}

std::string time_text(const statx_timestamp& time) {
    return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec);
}

// All that is below a directory, and what of it must be the same in the node and its snapshot. `origins`: it is the snapshot.
std::map<std::string, std::string> described(const std::string& directory, bool origins) {
    std::map<std::string, std::string> found;
    std::map<std::uint64_t, std::string> first_names;
    std::set<std::string> paths;
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
        paths.insert(entry.path());
    }
    for (const std::string& path : paths) {
        const FileStatus status = *stat_path(path, AT_SYMLINK_NOFOLLOW);
        std::string text = std::to_string(status.stx_mode) + " " + time_text(status.stx_mtime);
        if (S_ISREG(status.stx_mode)) {
            text += " named " + first_names.try_emplace(status.stx_ino, path.substr(directory.size())).first->second + " of " +
                    std::to_string(status.stx_nlink) + ": " + std::to_string(std::hash<std::string>{}(read_all(path)));
            const FileDescriptor file = open_path(path, O_RDONLY);
            const auto attribute = xattr::get(file.get(), "user.test", path);
            text += attribute ? " attribute " + std::to_string(attribute->size()) : "";
        }
        if (origins) {
            const CloneOrigin origin = read_clone_origin_at(AT_FDCWD, path, path);
            text += " inode " + std::to_string(origin.ino) + " changed " + std::to_string(origin.changed.seconds) + "." +
                    std::to_string(origin.changed.nanoseconds);
        } else {
            text += " inode " + std::to_string(status.stx_ino) + " changed " + time_text(status.stx_ctime);
        }
        found[path.substr(directory.size())] = text;
    }
    return found;
}

class CloneAheadTest : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        const std::string type = GetParam();
        NODESNAP_NEEDS_LOOP_MOUNT(type);
        mount_.emplace(type, std::uint64_t{512} << 20,
                       type == "xfs" ? std::vector<std::string>{"-m", "reflink=1"} : std::vector<std::string>{});
        fs::create_directories(node());
    }
    std::string node() const { return *mount_ / "data/node"; }
    std::unique_ptr<SnapshotBackend> choose() const {
        BackendOptions options;
        options.kind = "reflink";
        options.held = true;
        options.workers = 3;
        return choose_backend(node(), ExcludeRules(std::vector<std::string>{}), options);
    }
    // Of the directory that the snapshot's tree is, which is removed.
    void expect_shows_the_node(SnapshotBackend& backend) const {
        const auto snapshot = backend.create("one", true);
        snapshot->settle();
        EXPECT_EQ(described(snapshot->entry().path + "/tree", true), described(node(), false));
        snapshot->remove();
    }

    std::optional<test::LoopMount> mount_;
};

TEST_P(CloneAheadTest, WhatStaysIsNotClonedWhileTheDaemonIsHeld) {
    fs::create_directories(node() + "/below");
    for (int number = 0; number < 20; ++number) {
        write(node() + "/below/" + std::to_string(number), "content");
    }
    fs::create_hard_link(node() + "/below/1", node() + "/another name");
    const auto backend = choose();
    next_stamp_ns();
    backend->prepare();
    overwrite(node() + "/below/7", "CONTENT");
    write(node() + "/new", "new");
    test::FaultHooks hooks;
    const auto snapshot = backend->create("one", true);
    EXPECT_EQ(hooks.count("clone"), 2U) << "the one that was written to, and the new one";
    snapshot->settle();
    EXPECT_EQ(described(snapshot->entry().path + "/tree", true), described(node(), false));
}

// Whatever is done between the clones and the hold, or before the instant from which a change is sure to show.
TEST_P(CloneAheadTest, EveryChangeIsSeen) {
    const std::map<std::string, std::function<void(const std::string&)>> changes = {
        {"written, and its time set back", [](const std::string& path) { overwrite(path, "CONTENT"); }},
        {"longer", [](const std::string& path) { std::ofstream(path, std::ios::app) << "more"; }},
        {"shorter", [](const std::string& path) { fs::resize_file(path, 3); }},
        {"another mode", [](const std::string& path) { ::chmod(path.c_str(), 0640); }},
        {"an attribute", [](const std::string& path) { xattr::set(open_path(path, O_RDONLY).get(), "user.test", Bytes(5), path); }},
        {"one more name", [](const std::string& path) { fs::create_hard_link(path, path + " too"); }},
        {"another name", [](const std::string& path) { fs::rename(path, path + " now"); }},
        {"replaced",
         [](const std::string& path) {
             write(path + ".new", "CONTENT");
             fs::rename(path + ".new", path);
         }},
        {"removed", [](const std::string& path) { fs::remove(path); }},
        {"a directory",
         [](const std::string& path) {
             fs::remove(path);
             fs::create_directory(path);
             write(path + "/in it", "x");
         }},
        {"a symlink",
         [](const std::string& path) {
             fs::remove(path);
             fs::create_symlink("target", path);
         }},
        {"its directory moved",
         [](const std::string& path) { fs::rename(fs::path(path).parent_path(), fs::path(path).parent_path().string() + " elsewhere"); }},
        {"its directory a file",
         [](const std::string& path) {
             const std::string above = fs::path(path).parent_path();
             fs::remove_all(above);
             write(above, "a file");
         }},
        {"directories exchanged",
         [](const std::string& path) {
             const std::string above = fs::path(path).parent_path(), other = fs::path(above).parent_path().string() + "/other";
             ASSERT_EQ(::renameat2(AT_FDCWD, above.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE), 0);
         }},
    };
    for (const auto& [what, change] : changes) {
        for (const int names : {1, 2}) {
            SCOPED_TRACE(what + ", " + std::to_string(names) + " names");
            fs::create_directories(node() + "/directory");
            fs::create_directories(node() + "/other");
            write(node() + "/directory/file", "content");
            write(node() + "/other/file", "another's");
            if (names == 2) {
                fs::create_hard_link(node() + "/directory/file", node() + "/directory/second");
                fs::create_hard_link(node() + "/other/file", node() + "/other/second");
            }
            const auto backend = choose();
            next_stamp_ns();
            backend->prepare();
            change(node() + "/directory/file");
            expect_shows_the_node(*backend);
            for (const auto& entry : fs::directory_iterator(node())) {
                fs::remove_all(entry.path());
            }
        }
    }
}

// A page that was mapped and written to before, and is again: nothing but a fault sets the time.
TEST_P(CloneAheadTest, StoresIntoMappedPagesAreSeen) {
    constexpr std::size_t kBytes = 64 << 10;
    write(node() + "/mapped", std::string(kBytes, 'a'));
    const FileDescriptor file = open_path(node() + "/mapped", O_RDWR);
    auto* const mapped = static_cast<char*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
    ASSERT_NE(mapped, MAP_FAILED);
    for (char letter = 'b'; letter < 'g'; ++letter) {
        mapped[5000] = letter;
        next_stamp_ns();
        const auto backend = choose();
        backend->prepare();
        mapped[5000] = static_cast<char>(letter - 'a' + 'A');
        expect_shows_the_node(*backend);
    }
    ::munmap(mapped, kBytes);
}

// The walk isn't far ahead of those who clone: most of the directories are opened after they have become files.
TEST_P(CloneAheadTest, WhatChangesTooFastIsClonedWhileTheDaemonIsHeld) {
    constexpr int kDirectories = 300;
    const auto name = [this](int number) { return node() + "/" + std::to_string(number); };
    for (int number = 0; number < kDirectories; ++number) {
        fs::create_directory(name(number));
        write(name(number) + "/file", "content");
    }
    const auto backend = choose();
    {
        test::FaultHooks hooks;
        std::atomic<bool> done = false;
        hooks.on_each_step([&](const std::string& step) {
            if (step == "snapshot.cloned-ahead" && !done.exchange(true)) {
                for (int number = 0; number < kDirectories; ++number) {
                    fs::remove_all(name(number));
                    write(name(number), "a file");
                }
            }
        });
        backend->prepare();
    }
    expect_shows_the_node(*backend);
}

// Changes at every step of making the clones, and after it.
TEST_P(CloneAheadTest, RandomChangesMeanwhile) {
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    const auto any = [&random](std::uint64_t below) { return static_cast<unsigned>(random() % below); };
    const auto directories = [&] {
        std::vector<std::string> found{node()};
        for (const auto& entry : fs::recursive_directory_iterator(node())) {
            if (entry.is_directory()) {
                found.push_back(entry.path());
            }
        }
        return found;
    };
    const auto pick = [&](bool directory) -> std::string {
        std::vector<std::string> found;
        for (const auto& entry : fs::recursive_directory_iterator(node())) {
            if (entry.is_directory() == directory) {
                found.push_back(entry.path());
            }
        }
        return found.empty() ? "" : found[any(found.size())];
    };
    const auto place = [&] {
        const auto found = directories();
        return found[any(found.size())] + "/" + std::to_string(any(12));
    };
    const auto change = [&] {
        std::error_code ignored;
        const std::string file = pick(false), to = place();
        switch (any(10)) {
            case 0:
                fs::create_directory(to, ignored);
                break;
            case 1:
                fs::rename(pick(any(2) == 0), to, ignored);
                break;
            case 2:
                if (!file.empty()) {
                    fs::create_hard_link(file, to, ignored);
                }
                break;
            case 3:
                fs::remove(file, ignored);
                break;
            case 4:
                ::renameat2(AT_FDCWD, pick(any(2) == 0).c_str(), AT_FDCWD, pick(any(2) == 0).c_str(), RENAME_EXCHANGE);
                break;
            case 5:
                if (!file.empty()) {
                    overwrite(file, std::to_string(random()));
                }
                break;
            case 6:
                fs::remove_all(any(8) == 0 ? pick(true) : "", ignored);
                break;
            default:
                if (!fs::is_directory(to, ignored)) {
                    write(to, std::string(any(3) * 6000, 'x') + std::to_string(random()));
                }
        }
    };
    for (int round = 0; round < 25; ++round) {
        for (unsigned count = any(40); count != 0; --count) {
            change();
        }
        if (any(2) == 0) {
            next_stamp_ns();
        }
        const auto backend = choose();
        {
            test::FaultHooks hooks;
            std::mutex mutex;
            const unsigned rarely = 1 + any(12);
            hooks.on_each_step([&](const std::string&) {
                const std::lock_guard lock(mutex);
                if (any(rarely) == 0) {
                    change();
                }
            });
            backend->prepare();
        }
        for (unsigned count = any(6); count != 0; --count) {
            change();
        }
        SCOPED_TRACE("round " + std::to_string(round) + " of seed " + std::to_string(seed));
        ASSERT_NO_FATAL_FAILURE(expect_shows_the_node(*backend));
        if (HasFailure()) {
            return;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(OnEach, CloneAheadTest, testing::Values("xfs", "btrfs"));

}  // namespace
}  // namespace nodesnap
