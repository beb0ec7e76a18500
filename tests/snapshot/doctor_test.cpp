// What the doctor finds, and that it changes nothing.
#include "snapshot/doctor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/target/directory.h"
#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "snapshot/doctor/daemon.h"
#include "snapshot/doctor/speed.h"
#include "snapshot/doctor/storage.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"
#include "tests/support/test_cgroup.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using Severity = Finding::Severity;
using test::HolderProcess;
using test::LoopMount;

class DoctorTest : public testing::Test {
protected:
    // Mounts a file system with a node directory on it.
    void on(const std::string& type, std::vector<std::string> mkfs_options = {}) {
        mount_.emplace(type, std::uint64_t{512} << 20, std::move(mkfs_options));
        node_ = *mount_ / "node";
        fs::create_directory(node_);
        put("data", std::string(3 << 20, 'd'));
    }
    void put(const std::string& name, const std::string& content) const { write_file_durably(node_ + "/" + name, content); }

    Diagnosis diagnose_node(const Repository* repository = nullptr) {
        options_.backup.node_directory = node_;
        options_.backup.scratch_directory = scratch_.path();
        Progress progress;
        Report report;
        return diagnose(options_, repository, progress, report);
    }
    static std::string texts(const Diagnosis& diagnosis, Severity severity, const std::string& topic) {
        std::string all;
        for (const Finding& finding : diagnosis.findings) {
            if (finding.severity == severity && finding.topic == topic) {
                EXPECT_EQ(finding.remedy.empty(), severity == Severity::kFact) << finding.text;
                all += finding.text + "\n";
            }
        }
        return all;
    }
    static std::string why_not(const Diagnosis& diagnosis, const std::string& kind) {
        const auto offer =
            std::find_if(diagnosis.offers.begin(), diagnosis.offers.end(), [&](const SnapshotOffer& one) { return one.kind == kind; });
        return offer == diagnosis.offers.end() ? "isn't told of" : offer->why_not;
    }
    static void expect_part(const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), std::string::npos) << text << "lacks: " << part;
    }

    std::optional<LoopMount> mount_;
    std::string node_;
    test::ScratchDirectory scratch_{"nodesnap-doctor"};
    DoctorOptions options_{.backup = {}, .repository = "", .measure = false};
};

TEST_F(DoctorTest, OnBtrfsASnapshotIsChosen) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    on("btrfs");
    const Diagnosis found = diagnose_node();
    EXPECT_EQ(found.chosen, "btrfs");
    EXPECT_EQ(why_not(found, "btrfs"), "");
    EXPECT_EQ(why_not(found, "reflink"), "");
    EXPECT_EQ(texts(found, Severity::kFact, "layout"), "folder\n");
    expect_part(texts(found, Severity::kFact, "file system"), "btrfs on " + mount_->device());
    expect_part(texts(found, Severity::kFact, "device"), "a loop device of /");
    expect_part(texts(found, Severity::kFact, "consistency"), "crash-consistent");
    EXPECT_EQ(found.files, 1U);
    EXPECT_EQ(found.directories, 1U);
    EXPECT_GE(found.bytes, 3U << 20);
    EXPECT_EQ(found.command, "nodesnap backup " + node_ + " REPOSITORY");
    EXPECT_FALSE(found.has(Severity::kWarning));
    EXPECT_FALSE(found.has(Severity::kObstacle));
}

TEST_F(DoctorTest, OnBtrfsItTellsOfQuotasChecksumsAndWhatLeadsOut) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    on("btrfs");
    ASSERT_EQ(std::system(("btrfs quota enable " + mount_->path()).c_str()), 0);
    const FileDescriptor unsummed = open_path(node_ + "/unsummed", O_RDWR | O_CREAT, 0600);
    ASSERT_TRUE(set_inode_flags(unsummed.get(), FS_NOCOW_FL));
    pwrite_all(unsummed.get(), std::vector<std::byte>(1 << 20), 0, "unsummed");
    fs::create_symlink(scratch_.path(), node_ + "/wal");
    fs::create_symlink("data", node_ + "/within");
    fs::create_symlink("/nowhere/at/all", node_ + "/dangling");
    const Diagnosis found = diagnose_node();
    EXPECT_NE(texts(found, Severity::kWarning, "quota groups"), "");
    expect_part(texts(found, Severity::kWarning, "checksums"), "unsummed");
    EXPECT_EQ(texts(found, Severity::kWarning, "elsewhere"),
              "1 symlink(s) lead out of the node directory: wal -> " + scratch_.path() + "; what they lead to isn't in the backup\n");
    EXPECT_NE(found.command, "") << "none of these is in the way";
}

TEST_F(DoctorTest, WhatABackupRefusesIsAnObstacle) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    on("btrfs");
    const FileDescriptor directory = open_path(node_, O_RDONLY | O_DIRECTORY);
    btrfs::create_subvolume(directory.get(), "nested");
    Diagnosis found = diagnose_node();
    EXPECT_EQ(found.chosen, "");
    EXPECT_EQ(found.command, "");
    expect_part(texts(found, Severity::kObstacle, "snapshots"), "nested subvolume");
    options_.backup.excludes = {"/nested"};
    found = diagnose_node();
    EXPECT_FALSE(found.has(Severity::kObstacle));
    expect_part(found.command, "--exclude /nested");
}

TEST_F(DoctorTest, OnExt4ADaemonIsStoppedOrHeld) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    on("ext4");
    const Diagnosis stopped = diagnose_node();
    EXPECT_EQ(stopped.chosen, "none");
    expect_part(why_not(stopped, "btrfs"), "not on btrfs");
    expect_part(why_not(stopped, "reflink"), "clone");
    EXPECT_FALSE(stopped.has(Severity::kObstacle));
    const HolderProcess writer([this] { return ::open((node_ + "/data").c_str(), O_RDWR) >= 0; });
    const Diagnosis running = diagnose_node();
    EXPECT_TRUE(running.has(Severity::kObstacle));
    EXPECT_EQ(running.command, "");
    expect_part(texts(running, Severity::kFact, "in use"), "pid " + std::to_string(writer.pid()));
    expect_part(texts(running, Severity::kFact, "consistency"), "in passes");
}

TEST_F(DoctorTest, OnExt4ADaemonThatCanBeFrozenIsHeld) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    NODESNAP_NEEDS_CGROUPS();
    on("ext4");
    const test::TestCgroup cgroup;
    const HolderProcess writer([&] { return cgroup.enter() && ::open((node_ + "/data").c_str(), O_RDWR) >= 0; });
    const Diagnosis found = diagnose_node();
    EXPECT_FALSE(found.has(Severity::kObstacle));
    expect_part(found.command, "--hold freeze --pid " + std::to_string(writer.pid()));
}

TEST_F(DoctorTest, OnXfsFilesAreCloned) {
    NODESNAP_NEEDS_LOOP_MOUNT("xfs");
    on("xfs");
    const Diagnosis found = diagnose_node();
    EXPECT_EQ(found.chosen, "reflink");
    EXPECT_NE(why_not(found, "btrfs"), "");
    EXPECT_FALSE(fs::exists(*mount_ / ".nodesnap")) << "nothing is made";
}

TEST_F(DoctorTest, ADaemonInACgroupOfItsOwnCanBeFrozen) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    NODESNAP_NEEDS_CGROUPS();
    on("btrfs");
    const test::TestCgroup cgroup;
    const auto prepare = [&] { return cgroup.enter() && ::open((node_ + "/data").c_str(), O_RDWR) >= 0; };
    const HolderProcess writer(prepare);
    const Diagnosis found = diagnose_node();
    const std::string hold = "--hold freeze --pid " + std::to_string(writer.pid());
    expect_part(texts(found, Severity::kFact, "hold"), hold);
    expect_part(found.command, hold);
    const test::TestCgroup other;
    const HolderProcess second([&] { return other.enter() && ::open((node_ + "/data").c_str(), O_RDWR) >= 0; });
    expect_part(texts(diagnose_node(), Severity::kWarning, "hold"), "2 cgroups");
}

TEST_F(DoctorTest, OfARepositoryItTellsWhatABackupWouldReadAndWhatIsInTheWay) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    on("btrfs");
    const auto open_at_place = [](const std::string& place) {
        const auto target = open_directory_target(place, true);
        Repository::create(*target, "n1");
        return Repository::open(target, {});
    };
    const Repository apart = open_at_place(scratch_ / "repository");
    options_.repository = scratch_ / "repository";
    const Diagnosis found = diagnose_node(&apart);
    expect_part(texts(found, Severity::kFact, "next backup"), "would read 3.0 MiB, everything: it is the first backup");
    EXPECT_EQ(texts(found, Severity::kWarning, "repository"), "");
    EXPECT_EQ(found.command, "nodesnap backup " + node_ + " " + options_.repository);
    const Repository beside = open_at_place(*mount_ / "repository");
    EXPECT_NE(texts(diagnose_node(&beside), Severity::kWarning, "repository"), "") << "on one file system";
    const Repository inside = open_at_place(node_ + "/repository");
    EXPECT_NE(texts(diagnose_node(&inside), Severity::kObstacle, "repository"), "");
}

TEST_F(DoctorTest, MeasuringLeavesNothing) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    on("ext4");
    put("empty", "");
    const auto names = [&](const std::string& directory) {
        std::vector<std::string> all;
        for (const auto& entry : fs::recursive_directory_iterator(directory)) {
            all.push_back(entry.path());
        }
        std::sort(all.begin(), all.end());
        return all;
    };
    const auto before = names(mount_->path());
    const auto free_before = fs::space(mount_->path()).free;
    constexpr std::chrono::milliseconds kTime(50);
    const MeasuredSpeed reading = measure_reading(node_, {{"data", 3 << 20}, {"gone", 5 << 20}, {"empty", 0}}, kTime);
    EXPECT_GT(reading.bytes_per_second, 0);
    EXPECT_GT(reading.random_reads_per_second, 0);
    EXPECT_GT(measure_writing(mount_->path(), kTime).bytes_per_second, 0);
    EXPECT_EQ(names(mount_->path()), before);
    EXPECT_EQ(fs::space(mount_->path()).free, free_before);
    EXPECT_EQ(measure_reading(node_, {{"empty", 0}}, kTime).bytes_per_second, 0);
    EXPECT_THROW(measure_writing(node_ + "/nowhere", kTime), Error);
}

TEST_F(DoctorTest, EnginesAndTheirFilesElsewhere) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    on("btrfs");
    put("CURRENT", "MANIFEST-000001\n");
    put("IDENTITY", "x");
    put("OPTIONS-000009", "[DBOptions]\n  wal_dir=/old/wal\n");
    put("OPTIONS-000010", "[DBOptions]\n  wal_dir=/fast/wal\n");
    put("OPTIONS-000011.dbtmp", "[DBOptions]\n  wal_dir=/unfinished\n");
    const Diagnosis found = diagnose_node();
    EXPECT_EQ(texts(found, Severity::kFact, "engine"), "RocksDB\n");
    const std::string elsewhere = texts(found, Severity::kWarning, "elsewhere");
    expect_part(elsewhere, "the write-ahead log lies in /fast/wal");
    EXPECT_EQ(elsewhere.find("/old"), std::string::npos);
}

TEST(DoctorDaemon, RocksDbOptions) {
    EXPECT_TRUE(rocksdb_data_elsewhere("  wal_dir=\n", "/node").empty());
    EXPECT_TRUE(rocksdb_data_elsewhere("  wal_dir=/node/wal\n", "/node").empty());
    EXPECT_EQ(rocksdb_data_elsewhere("\twal_dir=/nodes/wal\n", "/node").size(), 1U);
    EXPECT_TRUE(rocksdb_data_elsewhere("  db_log_dir=/var/log\n", "/node").empty()) << "no data";
}

TEST(DoctorDaemon, QdbdConfiguration) {
    const auto found = [](const std::string& depot) { return qdbd_data_elsewhere(R"({"local": {"depot": )" + depot + "}}", "/node"); };
    EXPECT_TRUE(found(R"({"rocksdb": {"root": "/node", "cloud": {}}})").empty());
    EXPECT_TRUE(found(R"({"rocksdb": {"cloud": {"bucket": "", "enabled": false}}})").empty());
    EXPECT_EQ(found(R"({"rocksdb": {"cloud": {"bucket": "b"}}})").size(), 1U);
    EXPECT_EQ(found(R"({"helium_url": "he://.//dev/sdb"})").size(), 1U);
    EXPECT_EQ(found(R"({"rocksdb": {"root": "/other"}})").size(), 1U);
    EXPECT_EQ(found(R"({"root": "/node/db"})").size(), 0U);
    EXPECT_TRUE(qdbd_data_elsewhere("{}", "/node").empty()) << "keys can be missing";
    EXPECT_THROW(qdbd_data_elsewhere("{", "/node"), Error);
    EXPECT_TRUE(qdbd_data_elsewhere("[1]", "/node").empty());
}

TEST(DoctorStorage, WhatIsNoBlockDeviceIsntDescribed) {
    EXPECT_EQ(describe_device("/dev/null").kind, "");
    EXPECT_EQ(describe_device("tmpfs").kind, "");
}

}  // namespace
}  // namespace nodesnap
