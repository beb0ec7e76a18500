// The backend that clones files, on real file systems that can: XFS with reflink, and plain directories on btrfs.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
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

std::vector<std::byte> bytes(const std::string& text) {
    const auto view = std::as_bytes(std::span(text));
    return {view.begin(), view.end()};
}

// Everything that a stat tells but the time of access, by path.
std::map<std::string, std::string> stats_below(const std::string& directory) {
    std::map<std::string, std::string> found;
    const auto add = [&](const std::string& path) {
        const FileStatus status = *stat_path(path, AT_SYMLINK_NOFOLLOW);
        found[path] = std::to_string(status.stx_ino) + " " + std::to_string(status.stx_mode) + " " + std::to_string(status.stx_nlink) +
                      " " + std::to_string(status.stx_size) + " " + std::to_string(status.stx_mtime.tv_sec) + "." +
                      std::to_string(status.stx_mtime.tv_nsec) + " " + std::to_string(status.stx_ctime.tv_sec) + "." +
                      std::to_string(status.stx_ctime.tv_nsec);
    };
    add(directory);
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
        add(entry.path());
    }
    return found;
}

std::vector<std::string> names_in(const std::string& directory) {
    std::vector<std::string> names;
    if (fs::exists(directory)) {
        for (const auto& entry : fs::directory_iterator(directory)) {
            names.push_back(entry.path().filename());
        }
    }
    return names;
}

class ReflinkBackendTest : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        const std::string type = GetParam();
        NODESNAP_NEEDS_LOOP_MOUNT(type);
        mount_.emplace(type, std::uint64_t{512} << 20,
                       type == "xfs" ? std::vector<std::string>{"-m", "reflink=1"} : std::vector<std::string>{});
        fs::create_directories(node());
    }

    std::string node() const { return *mount_ / "data/node"; }
    std::string folder() const { return *mount_ / "data/.nodesnap"; }
    std::unique_ptr<SnapshotBackend> choose(const std::function<void(BackendOptions&)>& change = {},
                                            std::vector<std::string> excludes = {}) const {
        BackendOptions options;
        options.kind = "reflink";
        if (change) {
            change(options);
        }
        return choose_backend(node(), ExcludeRules(std::move(excludes)), options);
    }
    // What is there of snapshots, whole ones and others.
    std::vector<std::string> stored() const {
        std::vector<std::string> names = names_in(folder());
        std::erase(names, ".unfinished");
        for (const std::string& name : names_in(folder() + "/.unfinished")) {
            names.push_back("unfinished " + name);
        }
        return names;
    }
    HolderProcess open_elsewhere(const std::string& name, int flags) const {
        return HolderProcess([path = node() + "/" + name, flags] { return ::open(path.c_str(), flags) >= 0; });
    }
    // Ends in a child process as if it were killed there.
    void create_and_die_at(const std::string& step, std::uint64_t nth = 1, bool held = false) const {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            test::FaultHooks hooks;
            hooks.kill_at_step(step, nth);
            try {
                const auto snapshot = choose([&](BackendOptions& options) { options.held = held; })->create("one", true);
                snapshot->settle();
            } catch (const std::exception&) {
            }
            ::_exit(1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << step << ": " << status;
    }

    std::optional<test::LoopMount> mount_;
};

INSTANTIATE_TEST_SUITE_P(OnEach, ReflinkBackendTest, testing::Values("xfs", "btrfs"),
                         [](const testing::TestParamInfo<const char*>& type) { return std::string(type.param); });

TEST_P(ReflinkBackendTest, HoldsWhatTheNodeWasWhateverIsWrittenLater) {
    fs::create_directories(node() + "/below/deeper");
    write(node() + "/file", "before");
    write(node() + "/below/deeper/large", std::string(3 << 20, 'a'));
    const auto snapshot = choose()->create("one", true);
    EXPECT_EQ(snapshot->consistency(), Consistency::kPointInTime);
    EXPECT_EQ(snapshot->root_ino(), stat_path(node())->stx_ino);
    EXPECT_EQ(snapshot->proof().backend, "reflink");
    write(node() + "/file", "after");
    write(node() + "/below/deeper/large", "b");
    write(node() + "/new", "new");
    const std::string tree = snapshot->entry().path + "/tree";
    EXPECT_EQ(read_all(tree + "/file"), "before");
    EXPECT_EQ(read_all(tree + "/below/deeper/large"), std::string(3 << 20, 'a'));
    EXPECT_FALSE(stat_at(snapshot->root(), "new"));
    snapshot->remove();
    EXPECT_TRUE(stored().empty());
}

TEST_P(ReflinkBackendTest, ClonesAreWhatTheyAreOf) {
    write(node() + "/file", std::string(100'000, 'x'));
    fs::create_hard_link(node() + "/file", node() + "/link");
    fs::create_symlink("../nowhere", node() + "/symlink");
    fs::create_directory(node() + "/directory");
    ASSERT_EQ(::mkfifo((node() + "/fifo").c_str(), 0640), 0);
    write(node() + "/sparse", "");
    fs::resize_file(node() + "/sparse", 10 << 20);
    {
        const FileDescriptor sparse = open_path(node() + "/sparse", O_RDWR);
        pwrite_all(sparse.get(), bytes("in the middle"), 5 << 20, "sparse");
        ASSERT_EQ(entry::allocate(sparse.get(), true, 1 << 20, 1 << 20), 0);
        ASSERT_EQ(entry::allocate(sparse.get(), true, 11 << 20, 2 << 20), 0);
        sync_file(sparse.get(), "sparse");
    }
    ASSERT_EQ(::chown((node() + "/file").c_str(), 1234, 4321), 0);
    ASSERT_EQ(::chmod((node() + "/file").c_str(), 04751), 0);
    ASSERT_EQ(::lchown((node() + "/symlink").c_str(), 7, 8), 0);
    ASSERT_EQ(::chmod((node() + "/directory").c_str(), 01731), 0);
    xattr::set_at(AT_FDCWD, node() + "/file", "user.of", bytes("a file"));
    xattr::set_at(AT_FDCWD, node() + "/directory", "user.of", bytes("a directory"));
    xattr::set_at(AT_FDCWD, node() + "/symlink", "trusted.of", bytes("a symlink"));
    const FileDescriptor nodump = open_path(node() + "/file", O_RDONLY);
    const std::uint32_t flags = inode_flags(nodump.get()).value_or(0) | 0x40;
    ASSERT_TRUE(set_inode_flags(nodump.get(), flags));
    const FileDescriptor directory = open_path(node() + "/directory", O_RDONLY);
    ASSERT_EQ(entry::set_times(directory.get(), {1'000'000'000, 1, 1'100'000'000, 999'999'999}), 0);

    const auto snapshot = choose()->create("one", true);
    const std::string tree = snapshot->entry().path + "/tree";
    for (const std::string name : {".", "file", "link", "symlink", "directory", "fifo", "sparse"}) {
        const FileStatus before = *stat_path(node() + "/" + name, AT_SYMLINK_NOFOLLOW);
        const FileStatus clone = *stat_path(tree + "/" + name, AT_SYMLINK_NOFOLLOW);
        const CloneOrigin origin = read_clone_origin_at(AT_FDCWD, tree + "/" + name, name);
        EXPECT_EQ(clone.stx_mode, before.stx_mode) << name;
        EXPECT_EQ(clone.stx_uid, before.stx_uid) << name;
        EXPECT_EQ(clone.stx_gid, before.stx_gid) << name;
        EXPECT_EQ(clone.stx_mtime.tv_sec, before.stx_mtime.tv_sec) << name;
        EXPECT_EQ(clone.stx_mtime.tv_nsec, before.stx_mtime.tv_nsec) << name;
        EXPECT_EQ(origin.ino, before.stx_ino) << name;
        EXPECT_EQ(origin.links, before.stx_nlink) << name;
        EXPECT_EQ(origin.changed, (Time{before.stx_ctime.tv_sec, before.stx_ctime.tv_nsec})) << name;
        EXPECT_EQ(origin.born, (Time{before.stx_btime.tv_sec, before.stx_btime.tv_nsec})) << name;
        EXPECT_NE(clone.stx_ino, before.stx_ino) << name;
    }
    EXPECT_EQ(stat_path(tree + "/file")->stx_ino, stat_path(tree + "/link")->stx_ino);
    EXPECT_EQ(stat_path(tree + "/file")->stx_nlink, 2U);
    EXPECT_EQ(fs::read_symlink(tree + "/symlink"), "../nowhere");
    EXPECT_EQ(xattr::get_at(AT_FDCWD, tree + "/file", "user.of"), bytes("a file"));
    EXPECT_EQ(xattr::get_at(AT_FDCWD, tree + "/directory", "user.of"), bytes("a directory"));
    EXPECT_EQ(xattr::get_at(AT_FDCWD, tree + "/symlink", "trusted.of"), bytes("a symlink"));
    const CloneOrigin file = read_clone_origin_at(AT_FDCWD, tree + "/file", "file");
    EXPECT_EQ(file.generation, inode_generation(nodump.get()));
    EXPECT_NE(file.flags & 0x40, 0U);
    const CloneOrigin sparse = read_clone_origin_at(AT_FDCWD, tree + "/sparse", "sparse");
    EXPECT_EQ(sparse.unwritten, (std::vector<UnwrittenRange>{{1 << 20, 1 << 20}, {11 << 20, 2 << 20}}));
    EXPECT_EQ(read_all(tree + "/sparse"), read_all(node() + "/sparse"));
    EXPECT_LT(stat_path(tree + "/sparse")->stx_blocks * 512, 2U << 20) << "what is unwritten takes no room again";
}

TEST_P(ReflinkBackendTest, NothingIsWrittenIntoTheNodeDirectory) {
    fs::create_directories(node() + "/a/b");
    write(node() + "/a/b/file", std::string(70'000, 'x'));
    write(node() + "/small", "x");
    fs::create_symlink("small", node() + "/symlink");
    const auto before = stats_below(node());
    choose()->create("one", true)->remove();
    EXPECT_EQ(stats_below(node()), before);
}

TEST_P(ReflinkBackendTest, IsRefusedWhileSomebodyCanWrite) {
    write(node() + "/file", "x");
    const auto early = choose();
    const auto reader = open_elsewhere("file", O_RDONLY);
    EXPECT_EQ(choose()->create("read", true)->consistency(), Consistency::kPointInTime);
    const auto writer = open_elsewhere("file", O_RDWR);
    const Error error = error_of([&] { choose(); });
    EXPECT_EQ(error.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(error.message(), node() + "/file")) << error.message();
    EXPECT_TRUE(contains(error.hint(), "--accept-inconsistent")) << error.hint();
    EXPECT_EQ(error_of([&] { early->create("one", true); }).status(), ExitStatus::kRefused);
    EXPECT_TRUE(stored().empty());
    const auto accepted = choose([](BackendOptions& options) { options.accept_inconsistent = true; })->create("one", true);
    EXPECT_EQ(accepted->consistency(), Consistency::kInconsistent);
    EXPECT_EQ(choose([](BackendOptions& options) { options.held = true; })->create("two", true)->consistency(), Consistency::kPointInTime);
    EXPECT_EQ(choose({}, {"file"})->create("three", true)->consistency(), Consistency::kPointInTime);
}

TEST_P(ReflinkBackendTest, AChangeWhileItIsClonedIsNoticed) {
    write(node() + "/a", "x");
    write(node() + "/b", "x");
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "snapshot.inode-cloned") {
            write(node() + "/a", "y");
        }
    });
    const Error error = error_of([&] { choose()->create("one", true); });
    EXPECT_TRUE(contains(error.message(), "changed while it was cloned: a")) << error.message();
    EXPECT_TRUE(stored().empty());
    EXPECT_EQ(choose([](BackendOptions& options) { options.accept_inconsistent = true; })->create("one", true)->consistency(),
              Consistency::kInconsistent);
}

TEST_P(ReflinkBackendTest, IsNoSnapshotBeforeItIsSettled) {
    write(node() + "/file", "x");
    const auto backend = choose([](BackendOptions& options) { options.held = true; });
    backend->prepare();
    const auto snapshot = backend->create("one", true);
    EXPECT_TRUE(backend->list().empty());
    EXPECT_FALSE(backend->find("one", snapshot->proof()));
    EXPECT_EQ(stored().size(), 1U) << "somebody else's list doesn't clear up what is being made";
    snapshot->settle();
    snapshot->settle();
    ASSERT_EQ(backend->list().size(), 1U);
    EXPECT_TRUE(backend->list()[0].in_use);
    EXPECT_TRUE(backend->list()[0].temporary);
    EXPECT_TRUE(backend->find("one", snapshot->proof()));
}

TEST_P(ReflinkBackendTest, WhatIsHalfMadeIsClearedUp) {
    for (int number = 0; number < 50; ++number) {
        write(node() + "/file" + std::to_string(number), std::string(5000, 'x'));
    }
    fs::create_hard_link(node() + "/file0", node() + "/link");
    struct Death {
        const char* step;
        std::uint64_t nth;
        bool held = false;
    };
    for (const auto& [step, nth, held] : {Death{"snapshot.inode-cloned", 1},
                                          {"snapshot.inode-cloned", 25},
                                          {"snapshot.cloned-ahead", 25, true},
                                          {"snapshot.made-ahead", 1, true},
                                          {"snapshot.cloned", 1},
                                          {"snapshot.cloned", 1, true},
                                          {"snapshot.tree-durable", 1},
                                          {"snapshot.record-durable", 1}}) {
        create_and_die_at(step, nth, held);
        ASSERT_EQ(stored().size(), 1U) << step;
        EXPECT_TRUE(contains(stored()[0], "unfinished")) << step;
        EXPECT_TRUE(choose()->list().empty()) << step;
        EXPECT_TRUE(stored().empty()) << step;
        create_and_die_at(step, nth, held);
        choose()->create("one", true)->remove();
        EXPECT_TRUE(stored().empty()) << step;
        create_and_die_at(step, nth, held);
        choose()->remove_temporary("one");
        if (std::string_view(step).ends_with("-ahead")) {
            EXPECT_TRUE(choose()->list().empty()) << "it hasn't got its name yet: whoever comes next clears it up";
        }
        EXPECT_TRUE(stored().empty()) << step;
    }
    create_and_die_at("snapshot.taken");
    EXPECT_EQ(choose()->list().size(), 1U);
    EXPECT_TRUE(choose()->drop(choose()->list()[0]));
    EXPECT_TRUE(stored().empty());
}

TEST_P(ReflinkBackendTest, WhatIsHalfRemovedIsNoSnapshot) {
    write(node() + "/file", "x");
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        test::FaultHooks hooks;
        hooks.kill_at_step("snapshot.removed");
        choose()->create("one", true)->remove();
        ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(stored().size(), 1U);
    EXPECT_TRUE(choose()->list().empty());
    EXPECT_TRUE(stored().empty());
}

TEST_P(ReflinkBackendTest, IsFoundOnlyIfItProvesItself) {
    write(node() + "/file", "x");
    const auto backend = choose();
    auto made = backend->create("one", true);
    made->keep();
    const SnapshotProof proof = made->proof();
    const std::string path = made->entry().path;
    made.reset();
    ASSERT_TRUE(backend->find("one", proof));
    EXPECT_EQ(backend->find("one", proof)->root_ino(), stat_path(node())->stx_ino);
    EXPECT_EQ(proof.path, path);
    EXPECT_EQ(backend->path_of("one"), path);
    EXPECT_FALSE(backend->find("two", proof));
    SnapshotProof other = proof;
    other.subvolume_uuid.bytes[0] ^= 1;
    EXPECT_FALSE(backend->find("one", other));
    EXPECT_EQ(backend->flaw_of("one", other), "was replaced by another one");
    test::run({"cp", "-a", path, path + ".copy"});
    fs::rename(path, path + ".moved");
    fs::rename(path + ".copy", path);
    EXPECT_FALSE(backend->find("one", proof)) << "a copy isn't what the backup was drained from";
    EXPECT_EQ(backend->flaw_of("one", proof), "was replaced by a copy of it");
    fs::remove_all(path);
    fs::create_directory(path);
    EXPECT_EQ(backend->flaw_of("one", proof), "was replaced by what is no snapshot");
    fs::remove(path);
    EXPECT_EQ(backend->flaw_of("one", proof), "");
}

TEST_P(ReflinkBackendTest, OneInUseIsNotRemoved) {
    write(node() + "/file", "x");
    const auto backend = choose();
    const auto snapshot = backend->create("one", true);
    EXPECT_EQ(error_of([&] { backend->remove("one"); }).status(), ExitStatus::kRefused);
    EXPECT_FALSE(backend->drop(backend->list().at(0)));
    EXPECT_EQ(error_of([&] { backend->create("one", false); }).status(), ExitStatus::kRefused);
    snapshot->keep_for_operator();
    EXPECT_FALSE(backend->list().at(0).temporary);
    EXPECT_TRUE(fs::exists(snapshot->entry().path + "/tree/file"));
    EXPECT_TRUE(remove_left_snapshot("reflink", snapshot->entry().path + ".tmp"));
    EXPECT_TRUE(fs::exists(snapshot->entry().path + "/tree/file")) << "it is an operator's by now";
}

TEST_P(ReflinkBackendTest, OnlyWhatIsOursIsRemovedOfWhatADeadBackupLeft) {
    write(node() + "/file", "x");
    const auto backend = choose();
    const auto kept = backend->create("operator", false);
    kept->keep();
    auto snapshot = backend->create("dead", true);
    const std::string path = snapshot->entry().path;
    snapshot->keep();
    snapshot.reset();
    const std::string other = path.substr(0, path.rfind('.', path.size() - 5)) + ".other.tmp";  // by its name one of a backup's
    fs::create_directories(other + "/tree");
    EXPECT_TRUE(remove_left_snapshot("reflink", other));
    EXPECT_TRUE(fs::exists(other + "/tree"));
    EXPECT_TRUE(remove_left_snapshot("reflink", kept->entry().path));
    EXPECT_TRUE(remove_left_snapshot("reflink", kept->entry().path + ".tmp"));
    EXPECT_TRUE(fs::exists(kept->entry().path + "/tree/file"));
    EXPECT_TRUE(remove_left_snapshot("reflink", node()));
    EXPECT_TRUE(fs::exists(node() + "/file"));
    EXPECT_TRUE(remove_left_snapshot("reflink", path));
    EXPECT_FALSE(fs::exists(path));
    EXPECT_TRUE(remove_left_snapshot("reflink", path));
    EXPECT_FALSE(remove_left_snapshot("reflink", *mount_ / ("gone/.nodesnap/" + path.substr(path.rfind('/') + 1))));
    ASSERT_EQ(backend->list().size(), 1U);
    EXPECT_EQ(backend->list()[0].name, "operator");
}

TEST_P(ReflinkBackendTest, TellsWhatItHolds) {
    write(node() + "/file", std::string(8 << 20, 'x'));
    const auto backend = choose();
    const auto snapshot = backend->create("one", true);
    const HeldSpace before = backend->held_space(snapshot->entry());
    EXPECT_EQ(before.alone_bytes, 0U);
    EXPECT_GE(before.shared_bytes, 8U << 20);
    fs::resize_file(node() + "/file", 0);
    sync_file_system(snapshot->root(), "file");
    EXPECT_GE(backend->held_space(snapshot->entry()).alone_bytes, 8U << 20);
}

TEST_P(ReflinkBackendTest, WhatIsExcludedIsNotCloned) {
    fs::create_directories(node() + "/left/out");
    write(node() + "/left/out/file", "x");
    write(node() + "/a.skip", "x");
    write(node() + "/file", "x");
    const auto snapshot = choose({}, {"*.skip", "left/"})->create("one", true);
    EXPECT_EQ(names_in(snapshot->entry().path + "/tree"), std::vector<std::string>{"file"});
}

TEST_P(ReflinkBackendTest, HostileNamesAndDeepTrees) {
    std::string deep = node();
    for (int level = 0; level < 100; ++level) {
        deep += "/" + std::string(30, 'd');
        fs::create_directory(deep);
        if (level % 3 == 0) {
            write(deep + "/file", std::to_string(level));
        }
    }
    const std::vector<std::string> names = {"new\nline", "\xff\xfe", "'\"`$(x)", std::string(255, 'n'), " ", "...", "-rf", "\x01"};
    for (const std::string& name : names) {
        write(node() + "/" + name, name);
    }
    const auto snapshot = choose([](BackendOptions& options) { options.workers = 3; })->create("one", true);
    const std::string tree = snapshot->entry().path + "/tree";
    for (const std::string& name : names) {
        EXPECT_EQ(read_all(tree + "/" + name), name);
    }
    EXPECT_EQ(read_all(tree + deep.substr(node().size()) + "/file"), "99");
    EXPECT_EQ(stat_path(tree + deep.substr(node().size()))->stx_mtime.tv_nsec, stat_path(deep)->stx_mtime.tv_nsec);
}

TEST_P(ReflinkBackendTest, WhatTheFolderWouldHandDownIsNotInTheClones) {
    write(node() + "/file", std::string(50'000, 'x'));
    test::run({"setfacl", "-d", "-m", "u:1234:rwx", *mount_ / "data"});
    if (std::string(GetParam()) == "btrfs") {
        test::run({"chattr", "+C", *mount_ / "data"});
    }
    const auto snapshot = choose()->create("one", true);
    const std::string tree = snapshot->entry().path + "/tree";
    EXPECT_FALSE(xattr::get_at(AT_FDCWD, tree + "/file", "system.posix_acl_access"));
    EXPECT_FALSE(xattr::get_at(AT_FDCWD, tree, "system.posix_acl_default"));
}

TEST_P(ReflinkBackendTest, AtTheRootOfAMountSnapshotsLastOnlyInsideInAPlaceThatIsExcluded) {
    write(*mount_ / "file", "x");
    const auto choose_root = [&](const std::string& directory, std::vector<std::string> excludes, bool must_last = true) {
        BackendOptions options;
        options.kind = "reflink";
        options.must_last = must_last;
        options.snapshot_directory = directory;
        return choose_backend(mount_->path(), ExcludeRules(std::move(excludes)), options);
    };
    const Error error = error_of([&] { choose_root("", {}); });
    EXPECT_EQ(error.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(error.hint(), "--snapshot-dir " + (*mount_ / ".nodesnap") + " --exclude")) << error.hint();
    EXPECT_EQ(error_of([&] { choose_root(*mount_ / ".nodesnap", {}); }).status(), ExitStatus::kRefused);
    const auto backend = choose_root(*mount_ / ".nodesnap", {".nodesnap"});
    EXPECT_EQ(backend->layout(), Layout::kMountRoot);
    const auto snapshot = backend->create("one", true);
    EXPECT_EQ(read_all(snapshot->entry().path + "/tree/file"), "x");
    EXPECT_FALSE(fs::exists(snapshot->entry().path + "/tree/.nodesnap"));

    const auto nameless = choose_root("", {".nodesnap"}, false);
    EXPECT_TRUE(contains(nameless->why_no_changes(), "no names")) << nameless->why_no_changes();
    const std::vector<std::string> before = names_in(mount_->path());
    const auto seen = nameless->create("two", true);
    write(*mount_ / "file", "y");
    EXPECT_EQ(names_in(mount_->path()), before);
    const FileDescriptor file(seen->clones()->try_open(seen->root(), "file", O_RDONLY));
    std::array<std::byte, 8> content{};
    EXPECT_EQ(pread_some(file.get(), content, 0, "file"), 1U);
    EXPECT_EQ(static_cast<char>(content[0]), 'x');
    EXPECT_EQ(seen->clones()->number_of(seen->root(), "file", "file"), stat_path(*mount_ / "file")->stx_ino);
    EXPECT_EQ(nameless->find("two", seen->proof()), nullptr);
}

TEST(ChooseReflink, AutoTakesItWhereFilesCanBeCloned) {
    NODESNAP_NEEDS_LOOP_MOUNT("xfs");
    for (const bool reflink : {true, false}) {
        const test::LoopMount xfs("xfs", std::uint64_t{512} << 20, {"-m", reflink ? "reflink=1" : "reflink=0"});
        fs::create_directory(xfs / "node");
        const auto chosen = choose_backend(xfs / "node", ExcludeRules(), {});
        EXPECT_EQ(chosen->name(), reflink ? "reflink" : "none");
        EXPECT_TRUE(contains(chosen->reason(), "xfs")) << chosen->reason();
        EXPECT_EQ(names_in(xfs.path()), std::vector<std::string>{"node"}) << "looking leaves no trace";
        if (!reflink) {
            EXPECT_TRUE(contains(chosen->reason(), "cannot be cloned")) << chosen->reason();
            BackendOptions options;
            options.kind = "reflink";
            EXPECT_EQ(error_of([&] { choose_backend(xfs / "node", ExcludeRules(), options); }).status(), ExitStatus::kRefused);
        }
    }
}

}  // namespace
}  // namespace nodesnap
