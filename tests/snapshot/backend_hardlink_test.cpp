// The backend that links files, on real file systems that clone none: ext4, and XFS without reflink.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "platform/clock.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "platform/lease.h"
#include "platform/xattr.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/clone_origin.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using test::HolderProcess;

template <typename Function>
Error error_of(Function function) {
    try {
        function();
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "no error";
    return Error::failed("no error");
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::string read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

std::uint64_t number_of(const std::string& path) {
    return stat_path(path, AT_SYMLINK_NOFOLLOW)->stx_ino;
}

Time changed_at(const std::string& path) {
    const FileStatus status = *stat_path(path);
    return {status.stx_ctime.tv_sec, status.stx_ctime.tv_nsec};
}

// Names and contents, relative.
std::map<std::string, std::string> contents_below(const std::string& directory) {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
        found[entry.path().lexically_relative(directory)] = entry.is_regular_file() ? read_all(entry.path()) : "";
    }
    return found;
}

class HardlinkBackendTest : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        const std::string type = GetParam();
        NODESNAP_NEEDS_LOOP_MOUNT(type);
        mount_.emplace(type, std::uint64_t{512} << 20,
                       type == "xfs" ? std::vector<std::string>{"-m", "reflink=0"} : std::vector<std::string>{});
        fs::create_directories(node());
    }

    std::string node() const { return *mount_ / "data/node"; }
    std::string folder() const { return *mount_ / "data/.nodesnap"; }
    std::unique_ptr<SnapshotBackend> choose(const std::function<void(BackendOptions&)>& change = {},
                                            std::vector<std::string> excludes = {}) const {
        BackendOptions options;
        options.kind = "hardlink";
        options.immutable = {"*.sst"};
        if (change) {
            change(options);
        }
        return choose_backend(node(), ExcludeRules(std::move(excludes)), options);
    }
    static void held(BackendOptions& options) { options.held = true; }
    static CloneIndex clones_of(const Snapshot& snapshot, const std::string& node_directory) {
        return CloneIndex(open_path(snapshot.entry().path, O_RDONLY | O_DIRECTORY).get(), node_directory);
    }
    LinkRecord link_of(const Snapshot& snapshot, const std::string& name) const {
        const auto link = clones_of(snapshot, node()).link(number_of(node() + "/" + name));
        EXPECT_TRUE(link) << name << " is no link";
        return link.value_or(LinkRecord{});
    }
    std::vector<std::string> stored() const {
        std::vector<std::string> names;
        for (const std::string& directory : {folder(), folder() + "/.unfinished"}) {
            for (const auto& entry : fs::exists(directory) ? fs::directory_iterator(directory) : fs::directory_iterator()) {
                if (entry.path().filename() != ".unfinished") {
                    names.push_back(entry.path());
                }
            }
        }
        return names;
    }
    HolderProcess open_elsewhere(const std::string& name, int flags) const {
        return HolderProcess([path = node() + "/" + name, flags] { return ::open(path.c_str(), flags) >= 0; });
    }
    void overwrite(const std::string& name, const std::string& content, bool keeps_times = false) const {
        const std::string path = node() + "/" + name;
        const FileStatus before = *stat_path(path);
        {
            const FileDescriptor file = open_path(path, O_WRONLY);
            pwrite_all(file.get(), std::as_bytes(std::span(content)), 0, path);
        }
        if (keeps_times) {
            const FileDescriptor file = open_path(path, O_RDONLY);
            entry::set_times(file.get(),
                             {before.stx_atime.tv_sec, before.stx_atime.tv_nsec, before.stx_mtime.tv_sec, before.stx_mtime.tv_nsec});
        }
    }

    std::optional<test::LoopMount> mount_;
};

INSTANTIATE_TEST_SUITE_P(OnEach, HardlinkBackendTest, testing::Values("ext4", "xfs"),
                         [](const testing::TestParamInfo<const char*>& type) { return std::string(type.param); });

TEST_P(HardlinkBackendTest, LinksWhatNeverChangesAndCopiesTheRest) {
    fs::create_directories(node() + "/below");
    write(node() + "/below/1.sst", std::string(3 << 20, 't'));
    write(node() + "/log", "before");
    fs::create_symlink("log", node() + "/symlink");
    ASSERT_EQ(::mkfifo((node() + "/fifo").c_str(), 0640), 0);
    const auto backend = choose();
    EXPECT_EQ(backend->name(), "hardlink");
    EXPECT_FALSE(backend->atomic());
    const auto snapshot = backend->create("one", true);
    EXPECT_EQ(snapshot->consistency(), Consistency::kPointInTime);
    EXPECT_EQ(snapshot->root_ino(), number_of(node()));
    EXPECT_EQ(snapshot->proof().backend, "hardlink");
    const std::string tree = snapshot->entry().path + "/tree";
    EXPECT_EQ(number_of(tree + "/below/1.sst"), number_of(node() + "/below/1.sst"));
    EXPECT_NE(number_of(tree + "/log"), number_of(node() + "/log"));
    const auto before = contents_below(node());
    fs::remove(node() + "/below/1.sst");
    write(node() + "/log", "after");
    write(node() + "/2.sst", "new");
    EXPECT_EQ(contents_below(tree), before);
    EXPECT_EQ(fs::read_symlink(tree + "/symlink"), "log");
    snapshot->remove();
    EXPECT_TRUE(stored().empty());
}

TEST_P(HardlinkBackendTest, WhatIsOpenForWritingIsCopied) {
    for (const char* name : {"closed.sst", "open.sst", "mapped.sst", "read.sst"}) {
        write(node() + "/" + name, name);
    }
    const HolderProcess writes = open_elsewhere("open.sst", O_RDWR);
    const HolderProcess reads = open_elsewhere("read.sst", O_RDONLY);
    const HolderProcess maps([path = node() + "/mapped.sst"] {
        const int fd = ::open(path.c_str(), O_RDWR);
        void* const mapped = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ::close(fd);
        return mapped != MAP_FAILED;
    });
    for (const bool ahead : {false, true}) {
        const auto backend = choose(held);
        if (ahead) {
            backend->prepare();
        }
        const auto snapshot = backend->create("one", true);
        snapshot->settle();
        const std::string tree = snapshot->entry().path + "/tree/";
        for (const std::string name : {"closed.sst", "read.sst"}) {
            EXPECT_EQ(number_of(tree + name), number_of(node() + "/" + name)) << name;
        }
        for (const std::string name : {"open.sst", "mapped.sst"}) {
            EXPECT_NE(number_of(tree + name), number_of(node() + "/" + name)) << name;
            EXPECT_EQ(read_all(tree + name), name);
        }
    }
}

TEST_P(HardlinkBackendTest, ItsOwnLinksAreNoChangeOfAFile) {
    write(node() + "/1.sst", "table");
    const Time changed = changed_at(node() + "/1.sst");
    next_stamp_ns();
    const auto first = choose()->create("one", true);
    EXPECT_NE(changed_at(node() + "/1.sst"), changed);
    EXPECT_EQ(link_of(*first, "1.sst").changed, changed);
    EXPECT_EQ(link_of(*first, "1.sst").links, 1U);
    next_stamp_ns();
    const auto second = choose()->create("two", true);
    EXPECT_EQ(link_of(*second, "1.sst").changed, changed);
    EXPECT_EQ(link_of(*second, "1.sst").links, 1U);
    next_stamp_ns();
    first->remove();
    EXPECT_EQ(link_of(*second, "1.sst").seen, changed_at(node() + "/1.sst"));
    const auto third = choose()->create("three", true);
    EXPECT_EQ(link_of(*third, "1.sst").changed, changed);
    EXPECT_TRUE(link_of(*third, "1.sst").is_same(link_of(*second, "1.sst")));
}

TEST_P(HardlinkBackendTest, WhatAnybodyElseDidIs) {
    const std::map<std::string, std::function<void(const std::string&)>> changes = {
        {"written", [&](const std::string& name) { overwrite(name, "x"); }},
        {"written with its times set back", [&](const std::string& name) { overwrite(name, "x", true); }},
        {"another mode", [&](const std::string& name) { ::chmod((node() + "/" + name).c_str(), 0600); }},
        {"an attribute", [&](const std::string& name) { xattr::set_at(AT_FDCWD, node() + "/" + name, "user.of", {}); }},
        {"renamed",
         [&](const std::string& name) {
             fs::rename(node() + "/" + name, node() + "/moved");
             fs::rename(node() + "/moved", node() + "/" + name);
         }},
    };
    int number = 0;
    for (const auto& [what, change] : changes) {
        const std::string name = std::to_string(++number) + ".sst";
        write(node() + "/" + name, "table");
        next_stamp_ns();
        const auto first = choose()->create("first" + name, true);
        next_stamp_ns();
        change(name);
        const Time changed = changed_at(node() + "/" + name);
        next_stamp_ns();
        const auto second = choose()->create("second" + name, true);
        EXPECT_EQ(link_of(*second, name).changed, changed) << what;
        EXPECT_FALSE(link_of(*second, name).is_same(link_of(*first, name))) << what;
    }
}

TEST_P(HardlinkBackendTest, FlagsOfTheNodesFilesStayWhenALinkIsRemoved) {
    constexpr std::uint32_t kImmutable = 0x10;
    write(node() + "/1.sst", "table");
    write(node() + "/2.sst", "immutable before");
    const FileDescriptor first = open_path(node() + "/1.sst", O_RDONLY);
    const FileDescriptor second = open_path(node() + "/2.sst", O_RDONLY);
    ASSERT_TRUE(set_inode_flags(second.get(), inode_flags(second.get()).value_or(0) | kImmutable));
    const auto snapshot = choose()->create("one", true);
    EXPECT_NE(number_of(snapshot->entry().path + "/tree/2.sst"), number_of(node() + "/2.sst")) << "it can't be linked";
    ASSERT_TRUE(set_inode_flags(first.get(), inode_flags(first.get()).value_or(0) | kImmutable));
    snapshot->remove();
    EXPECT_TRUE(stored().empty());
    for (const FileDescriptor* file : {&first, &second}) {
        EXPECT_EQ(inode_flags(file->get()).value_or(0) & kImmutable, kImmutable);
        EXPECT_EQ(stat_fd(file->get()).stx_nlink, 1U);
        set_inode_flags(file->get(), inode_flags(file->get()).value_or(0) & ~kImmutable);
    }
}

TEST_P(HardlinkBackendTest, NamesOfOneInodeStayTogether) {
    fs::create_directories(node() + "/checkpoint");
    write(node() + "/1.sst", "table");
    fs::create_hard_link(node() + "/1.sst", node() + "/checkpoint/1.sst");
    write(node() + "/2.sst", "outside, too");
    fs::create_hard_link(node() + "/2.sst", *mount_ / "2.sst");
    write(node() + "/log", "log");
    fs::create_hard_link(node() + "/log", node() + "/checkpoint/log");
    write(node() + "/3.sst", "written again");
    const auto first = choose()->create("one", true);
    EXPECT_EQ(link_of(*first, "1.sst").links, 2U);
    EXPECT_EQ(link_of(*first, "2.sst").links, 1U) << "of those in the node directory";
    const HolderProcess writes = open_elsewhere("3.sst", O_RDWR);
    const auto second = choose(held)->create("two", true);
    second->settle();
    const std::string tree = second->entry().path + "/tree/";
    EXPECT_EQ(link_of(*second, "1.sst").links, 2U);
    EXPECT_EQ(number_of(tree + "1.sst"), number_of(tree + "checkpoint/1.sst"));
    EXPECT_EQ(number_of(tree + "log"), number_of(tree + "checkpoint/log"));
    EXPECT_EQ(read_clone_origin_at(AT_FDCWD, tree + "log", "log").links, 2U);
    EXPECT_EQ(read_clone_origin_at(AT_FDCWD, tree + "3.sst", "3.sst").links, 1U) << "one of its two is the first snapshot's";
}

// A name that comes after the flag can't be linked, but one that was linked before is.
TEST_P(HardlinkBackendTest, AFlagThatForbidsLinksDoesNotPartTheNamesOfAFile) {
    for (const std::uint32_t flag : {FS_IMMUTABLE_FL, FS_APPEND_FL}) {
        write(node() + "/1.sst", "table");
        fs::create_hard_link(node() + "/1.sst", node() + "/2.sst");
        const FileDescriptor file = open_path(node() + "/1.sst", O_RDONLY);
        const auto backend = choose(held);
        backend->prepare();
        fs::create_hard_link(node() + "/1.sst", node() + "/3.sst");
        ASSERT_TRUE(set_inode_flags(file.get(), flag));
        const auto snapshot = backend->create("one", true);
        snapshot->settle();
        const std::string tree = snapshot->entry().path + "/tree";
        EXPECT_EQ(contents_below(tree), contents_below(node()));
        EXPECT_EQ(number_of(tree + "/1.sst"), number_of(tree + "/2.sst"));
        EXPECT_EQ(number_of(tree + "/1.sst"), number_of(tree + "/3.sst"));
        EXPECT_EQ(read_clone_origin_at(AT_FDCWD, tree + "/3.sst", "3.sst").links, 3U);
        EXPECT_EQ(stat_fd(file.get()).stx_nlink, 3U) << "what was linked ahead is dropped";
        EXPECT_EQ(inode_flags(file.get()).value_or(0) & flag, flag);
        ASSERT_TRUE(set_inode_flags(file.get(), 0));
        for (const char* name : {"1.sst", "2.sst", "3.sst"}) {
            fs::remove(node() + "/" + name);
        }
    }
}

TEST_P(HardlinkBackendTest, WhatWasLinkedAheadIsBroughtUpToDateWhileHeld) {
    fs::create_directories(node() + "/gone/deeper");
    fs::create_directories(node() + "/stays/deeper");
    fs::create_directories(node() + "/renamed");
    fs::create_directories(node() + "/becomes-a-link.sst");
    fs::create_directories(node() + "/becomes-a-copy");
    write(node() + "/becomes-a-link.sst/6.sst", "x");
    write(node() + "/becomes-a-copy/7.sst", "x");
    for (const char* name :
         {"stays.sst", "removed.sst", "replaced.sst", "renamed.sst", "opened.sst", "gone/deeper/1.sst", "stays/deeper/2.sst",
          "renamed/3.sst", "becomes-a-symlink.sst", "becomes-a-directory.sst", "swapped-a.sst", "swapped-b.sst"}) {
        write(node() + "/" + name, name);
    }
    const auto backend = choose(held);
    backend->prepare();
    const std::uint64_t prepared = number_of(node() + "/stays.sst");
    EXPECT_EQ(stat_path(node() + "/stays.sst")->stx_nlink, 2U) << "it wasn't linked ahead";
    fs::remove(node() + "/removed.sst");
    write(node() + "/new", "another file");
    fs::rename(node() + "/new", node() + "/replaced.sst");
    fs::rename(node() + "/renamed.sst", node() + "/is renamed.sst");
    fs::remove_all(node() + "/gone");
    fs::rename(node() + "/renamed", node() + "/is renamed");
    fs::create_directory(node() + "/new directory");
    write(node() + "/new directory/4.sst", "new");
    fs::remove(node() + "/becomes-a-symlink.sst");
    fs::create_symlink("stays.sst", node() + "/becomes-a-symlink.sst");
    fs::remove(node() + "/becomes-a-directory.sst");
    fs::create_directory(node() + "/becomes-a-directory.sst");
    write(node() + "/becomes-a-directory.sst/5.sst", "deeper");
    for (const char* name : {"becomes-a-link.sst", "becomes-a-copy"}) {
        fs::remove_all(node() + "/" + name);
        write(node() + "/" + name, "was a directory");
    }
    fs::rename(node() + "/swapped-a.sst", node() + "/swapped-c.sst");
    fs::rename(node() + "/swapped-b.sst", node() + "/swapped-a.sst");
    fs::rename(node() + "/swapped-c.sst", node() + "/swapped-b.sst");
    fs::create_hard_link(node() + "/stays.sst", node() + "/second.sst");
    overwrite("opened.sst", "O");
    const HolderProcess writes = open_elsewhere("opened.sst", O_RDWR);
    const auto snapshot = backend->create("one", true);
    snapshot->settle();
    const std::string tree = snapshot->entry().path + "/tree";
    EXPECT_EQ(contents_below(tree), contents_below(node()));
    EXPECT_EQ(number_of(tree + "/stays.sst"), prepared);
    EXPECT_EQ(link_of(*snapshot, "stays.sst").links, 2U);
    EXPECT_NE(number_of(tree + "/opened.sst"), number_of(node() + "/opened.sst"));
    for (const char* name : {"stays.sst", "replaced.sst", "is renamed.sst", "swapped-a.sst", "swapped-b.sst", "is renamed/3.sst"}) {
        EXPECT_EQ(number_of(tree + "/" + name), number_of(node() + "/" + name)) << name;
        EXPECT_EQ(link_of(*snapshot, name).seen, changed_at(node() + "/" + name)) << name;
    }
    EXPECT_EQ(stat_path(node() + "/opened.sst")->stx_nlink, 1U) << "what was linked ahead is dropped";
    for (const char* directory : {".", "stays", "stays/deeper", "is renamed", "new directory"}) {
        const FileStatus here = *stat_path(tree + "/" + directory), there = *stat_path(node() + "/" + directory);
        EXPECT_TRUE(here.stx_mtime.tv_sec == there.stx_mtime.tv_sec && here.stx_mtime.tv_nsec == there.stx_mtime.tv_nsec) << directory;
    }
}

TEST_P(HardlinkBackendTest, ALinkThatWasWrittenToIsTold) {
    const std::map<std::string, std::pair<bool, std::function<void(const std::string&)>>> changes = {
        {"nothing", {false, [](const std::string&) {}}},
        {"written", {true, [&](const std::string& path) { overwrite(fs::path(path).filename(), "x"); }}},
        {"written with its times set back", {true, [&](const std::string& path) { overwrite(fs::path(path).filename(), "x", true); }}},
        {"cut off", {true, [](const std::string& path) { fs::resize_file(path, 1); }}},
        {"another mode", {true, [](const std::string& path) { ::chmod(path.c_str(), 0600); }}},
        {"removed", {false, [](const std::string& path) { fs::remove(path); }}},
        {"renamed", {false, [](const std::string& path) { fs::rename(path, path + ".trash"); }}},
        {"linked", {false, [](const std::string& path) { fs::create_hard_link(path, path + ".checkpoint"); }}},
    };
    int number = 0;
    for (const auto& [what, how] : changes) {
        const std::string name = std::to_string(++number) + ".sst";
        write(node() + "/" + name, "table");
        const auto snapshot = choose()->create("one" + name, true);
        const CloneIndex clones = clones_of(*snapshot, node());
        const FileDescriptor link = open_path(snapshot->entry().path + "/tree/" + name, O_RDONLY);
        const std::uint64_t ino = stat_fd(link.get()).stx_ino;
        next_stamp_ns();
        how.second(node() + "/" + name);
        if (how.first) {
            const Error error = error_of([&] { clones.check_link(link.get(), name); });
            EXPECT_TRUE(contains(error.message(), name)) << what << ": " << error.message();
            EXPECT_TRUE(contains(error.hint(), "--immutable")) << error.hint();
            EXPECT_FALSE(clones.open(ino, clones.link(ino)->generation)) << what;
        } else {
            EXPECT_NO_THROW(clones.check_link(link.get(), name)) << what;
        }
    }
    write(node() + "/open.sst", "table");
    const auto snapshot = choose()->create("open", true);
    const HolderProcess writes = open_elsewhere("open.sst", O_RDWR);
    const FileDescriptor link = open_path(snapshot->entry().path + "/tree/open.sst", O_RDONLY);
    EXPECT_TRUE(contains(error_of([&] { clones_of(*snapshot, node()).check_link(link.get(), "open.sst"); }).message(), "open for writing"));
}

// The instant of the snapshot ends with the tick of the clock, so that whatever is written afterwards gets a later time.
TEST_P(HardlinkBackendTest, WhatIsWrittenDirectlyAfterwardsHasALaterTime) {
    for (int round = 0; round < 20; ++round) {
        write(node() + "/1.sst", "table");
        const auto backend = choose(held);
        backend->prepare();
        const auto snapshot = backend->create("one", true);
        overwrite("1.sst", "TABLE");
        const Time changed = changed_at(node() + "/1.sst");
        snapshot->settle();
        EXPECT_LT(link_of(*snapshot, "1.sst").seen, changed);
    }
}

TEST_P(HardlinkBackendTest, CopiesHaveHolesAndUnwrittenSpaceWhereTheFileHas) {
    write(node() + "/sparse", "");
    fs::resize_file(node() + "/sparse", 10 << 20);
    {
        const std::string text = "in the middle";
        const FileDescriptor sparse = open_path(node() + "/sparse", O_RDWR);
        pwrite_all(sparse.get(), std::as_bytes(std::span(text)), 5 << 20, "sparse");
        ASSERT_EQ(entry::allocate(sparse.get(), true, 1 << 20, 1 << 20), 0);
        ASSERT_EQ(entry::allocate(sparse.get(), true, 11 << 20, 2 << 20), 0);
        sync_file(sparse.get(), "sparse");
        // Not on storage yet.
        pwrite_all(sparse.get(), std::as_bytes(std::span(text)), (1 << 20) + (512 << 10), "sparse");
    }
    const auto snapshot = choose(held)->create("one", true);
    snapshot->settle();
    const std::string tree = snapshot->entry().path + "/tree/";
    EXPECT_EQ(read_all(tree + "sparse"), read_all(node() + "/sparse"));
    const CloneOrigin sparse = read_clone_origin_at(AT_FDCWD, tree + "sparse", "sparse");
    std::uint64_t unwritten = 0;
    for (const UnwrittenRange& range : sparse.unwritten) {
        unwritten += range.length;
    }
    EXPECT_GE(unwritten, (3U << 20) - (8U << 10));
    EXPECT_LE(unwritten, 3U << 20);
    EXPECT_LT(stat_path(tree + "sparse")->stx_blocks * 512, 1U << 20) << "what is unwritten takes no room again";
}

TEST_P(HardlinkBackendTest, KilledAnywhereItLeavesNothingThatTheNextDoesNotClear) {
    for (int number = 0; number < 10; ++number) {
        write(node() + "/" + std::to_string(number) + ".sst", std::string(1000, 'a'));
    }
    write(node() + "/log", "log");
    const auto kept = choose()->create("kept", true);
    const Time changed = link_of(*kept, "1.sst").changed;
    for (const auto& [step, nth] : std::vector<std::pair<std::string, std::uint64_t>>{{"snapshot.inode-linked", 1},
                                                                                      {"snapshot.inode-linked", 5},
                                                                                      {"snapshot.made-ahead", 1},
                                                                                      {"snapshot.inode-linked", 15},
                                                                                      {"snapshot.cloned", 1},
                                                                                      {"snapshot.tree-durable", 1},
                                                                                      {"snapshot.record-durable", 1}}) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            test::FaultHooks hooks;
            hooks.kill_at_step(step, nth);
            try {
                choose(held)->create("one", true)->settle();
            } catch (const std::exception&) {
            }
            ::_exit(1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << step << ": " << status;
        EXPECT_GT(stored().size(), 1U) << step;
        EXPECT_EQ(choose()->list().size(), 1U) << step;
        EXPECT_EQ(stored(), std::vector<std::string>{kept->entry().path}) << step;
        EXPECT_EQ(stat_path(node() + "/1.sst")->stx_nlink, 2U) << step;
    }
    // Only where it was killed between the two system calls would a file be read again.
    const auto next = choose()->create("next", true);
    int unchanged = 0;
    for (int number = 0; number < 10; ++number) {
        unchanged += link_of(*next, std::to_string(number) + ".sst").is_same(link_of(*kept, std::to_string(number) + ".sst")) ? 1 : 0;
    }
    EXPECT_EQ(unchanged, 10);
    EXPECT_EQ(link_of(*next, "1.sst").changed, changed);
}

TEST_P(HardlinkBackendTest, ItIsListedFoundAndRemoved) {
    write(node() + "/1.sst", std::string(1 << 20, 'a'));
    write(node() + "/log", std::string(64 << 10, 'l'));
    const auto backend = choose();
    std::string path;
    SnapshotProof proof;
    {
        const auto snapshot = backend->create("one", true);
        snapshot->keep();
        proof = snapshot->proof();
        path = snapshot->entry().path;
    }
    EXPECT_NE(backend->find("one", proof), nullptr);
    // Who only lists needs neither patterns nor the kind.
    BackendOptions listing;
    listing.preflight = false;
    listing.must_snapshot = true;
    const auto lists = choose_backend(node(), ExcludeRules(), listing);
    ASSERT_EQ(lists->list().size(), 1U);
    const SnapshotEntry entry = lists->list().front();
    EXPECT_EQ(entry.name, "one");
    EXPECT_TRUE(entry.temporary);
    const std::uint64_t copies = lists->held_space(entry).alone_bytes;
    EXPECT_GE(copies, 64U << 10);
    EXPECT_LT(copies, 1U << 20) << "the table is the node's, too";
    fs::remove(node() + "/1.sst");
    EXPECT_GE(lists->held_space(entry).alone_bytes, (1U << 20) + (64U << 10)) << "by now the snapshot alone holds it";
    EXPECT_TRUE(lists->drop(entry));
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(backend->find("one", proof), nullptr);
    EXPECT_TRUE(lists->list().empty());
}

TEST_P(HardlinkBackendTest, WhatCanNotBeDoneSafelyIsRefused) {
    write(node() + "/1.sst", "table");
    write(node() + "/log", "log");
    EXPECT_TRUE(contains(error_of([&] { choose([](BackendOptions& options) { options.immutable.clear(); }); }).hint(), "--immutable"));
    {
        const HolderProcess writes = open_elsewhere("log", O_RDWR);
        const Error error = error_of([&] { choose(); });
        EXPECT_EQ(error.status(), ExitStatus::kRefused);
        EXPECT_TRUE(contains(error.message(), "log")) << error.message();
        EXPECT_TRUE(contains(error.hint(), "--hold")) << error.hint();
        EXPECT_NO_THROW(choose(held));
    }
    BackendOptions options;
    options.kind = "hardlink";
    options.immutable = {"*.sst"};
    options.must_last = true;
    const Error at_root = error_of([&] { choose_backend(mount_->path(), ExcludeRules(), options); });
    EXPECT_EQ(at_root.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(at_root.hint(), "--snapshot-dir")) << at_root.hint();
    options.snapshot_directory = *mount_ / ".nodesnap";
    options.held = true;  // lost+found is of this second
    const auto inside = choose_backend(mount_->path(), ExcludeRules({".nodesnap", "data/.nodesnap"}), options);
    const auto snapshot = inside->create("one", true);
    snapshot->settle();
    EXPECT_EQ(number_of(snapshot->entry().path + "/tree/data/node/1.sst"), number_of(node() + "/1.sst"));
    EXPECT_FALSE(fs::exists(snapshot->entry().path + "/tree/.nodesnap"));
    EXPECT_TRUE(contains(error_of([&] {
                             choose([](BackendOptions& late) {
                                 late.held = true;
                                 late.longest_hold_ns = 1;
                             })->create("late", true);
                         }).message(),
                         "--max-downtime"));
    EXPECT_TRUE(stored().empty()) << "of what is refused nothing is left";
}

TEST_P(HardlinkBackendTest, AutoTakesItWhereItIsKnownWhatNeverChangesAndTheDaemonIsHeld) {
    const auto chosen = [&](bool is_held, std::vector<std::string> immutable) {
        BackendOptions options;
        options.held = is_held;
        options.immutable = std::move(immutable);
        return choose_backend(node(), ExcludeRules(), options);
    };
    EXPECT_EQ(chosen(true, {"*.sst"})->name(), "hardlink");
    EXPECT_TRUE(contains(chosen(true, {"*.sst"})->reason(), GetParam()));
    EXPECT_EQ(chosen(false, {"*.sst"})->name(), "none");
    EXPECT_TRUE(contains(chosen(false, {"*.sst"})->reason(), "--hold")) << chosen(false, {"*.sst"})->reason();
    EXPECT_EQ(chosen(true, {})->name(), "none");
    EXPECT_TRUE(contains(chosen(true, {})->reason(), "--immutable")) << chosen(true, {})->reason();
}

TEST(ReadLease, IsHadOnlyWhileNobodyCanWrite) {
    const test::ScratchDirectory scratch;
    write(scratch / "file", "x");
    const FileDescriptor file = open_path(scratch / "file", O_RDONLY);
    {
        const ReadLease lease(file.get());
        EXPECT_EQ(lease.error(), 0);
        EXPECT_TRUE(lease.lasts());
        EXPECT_LT(::open((scratch / "file").c_str(), O_WRONLY | O_NONBLOCK), 0) << "it waits until the lease is given back";
        EXPECT_FALSE(lease.lasts()) << "somebody has asked for it";
    }
    const FileDescriptor writes = open_path(scratch / "file", O_WRONLY);
    EXPECT_EQ(ReadLease(file.get()).error(), EAGAIN);
}

}  // namespace
}  // namespace nodesnap
