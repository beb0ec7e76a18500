// What the tests of restore share: a scratch directory, real backups of it, and a way to see whether two trees are the same.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/backup.h"
#include "snapshot/restore.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/loop_mount.h"

namespace nodesnap::test {

namespace fs = std::filesystem;

inline std::string random_content(std::mt19937_64& random, std::size_t size) {
    std::string content(size, '\0');
    for (char& c : content) {
        c = static_cast<char>(random());
    }
    return content;
}

inline void write_file(const fs::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

inline std::string read_file(const fs::path& path) {
    std::string content(fs::file_size(path), '\0');
    std::ifstream(path, std::ios::binary).read(content.data(), static_cast<std::streamsize>(content.size()));
    return content;
}

inline std::set<std::string> split(const char* names, ssize_t length) {
    std::set<std::string> result;
    for (ssize_t at = 0; at < length; at += static_cast<ssize_t>(std::strlen(names + at)) + 1) {
        result.insert(names + at);
    }
    return result;
}

// One line for each entry: path, mode, owner, modification time, links, size, content or target, names of attributes.
inline std::map<std::string, std::string> picture_of(const fs::path& root) {
    std::map<std::string, std::string> picture;
    const auto add = [&](const fs::path& path) {
        struct stat status {};
        EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
        std::ostringstream line;
        line << std::oct << status.st_mode << std::dec << ' ' << status.st_uid << ':' << status.st_gid << ' ' << status.st_mtim.tv_sec
             << '.' << status.st_mtim.tv_nsec;
        if (S_ISREG(status.st_mode)) {
            line << " links " << status.st_nlink << " size " << status.st_size << ' ' << std::hash<std::string>()(read_file(path));
        } else if (S_ISLNK(status.st_mode)) {
            line << " -> " << fs::read_symlink(path);
        }
        char names[1024];
        const auto length = ::llistxattr(path.c_str(), names, sizeof names);
        for (const auto& name : split(names, length)) {
            line << ' ' << name;
        }
        picture[path.lexically_relative(root).string()] = line.str();
    };
    add(root);
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
        add(entry.path());
    }
    return picture;
}

// Lets scratch directories lie in memory where that can hold attributes: these tests sync a lot, and syncfs() waits for everyone who writes
// to a disk. NODESNAP_TEST_IMAGES names the place (scripts/test); otherwise a TMPDIR that is set is left alone.
struct ScratchInMemory {
    ScratchInMemory() {
        const char* place = std::getenv("NODESNAP_TEST_IMAGES");
        if (place == nullptr && std::getenv("TMPDIR") == nullptr) {
            place = "/dev/shm";
        }
        if (place == nullptr) {
            return;
        }
        const fs::path probe = fs::path(place) / ("nodesnap-probe-" + std::to_string(::getpid()));
        write_file(probe, "");
        if (::lsetxattr(probe.c_str(), "user.probe", "", 0, 0) == 0) {
            ::setenv("TMPDIR", place, 1);
        }
        std::error_code ignored;
        fs::remove(probe, ignored);
    }
};

// A backup of base/node as it lies there, by whoever runs the tests.
inline BackupOptions plain_backup_of(const fs::path& base) {
    BackupOptions options;
    options.node_directory = (base / "node").string();
    options.backend.kind = "none";
    options.backend.accept_inconsistent = true;
    options.state_directory = (base / "state").string();
    options.scratch_directory = base.string();
    return options;
}

class RestoreTest : public testing::Test {
protected:
    void SetUp() override {
        interrupt::clear();
        fs::create_directory(node());
    }
    void TearDown() override { interrupt::clear(); }

    fs::path base() const { return scratch_.path(); }
    fs::path node() const { return base() / "node"; }
    fs::path place() const { return base() / "place"; }
    fs::path staging() const { return base() / ".place.nodesnap-restore"; }

    Manifest back_up() {
        auto repository = open();
        Progress progress;
        Report report;
        return run_backup(repository, plain_backup_of(base()), progress, report).manifest;
    }
    Repository open() { return made_.open(); }

    RestoreOptions options() const {
        RestoreOptions options;
        options.destination = place().string();
        return options;
    }
    RestoreResult restore(const Manifest& backup, const RestoreOptions& options) {
        auto repository = open();
        Progress progress;
        return run_restore(repository, backup, options, progress, report_);
    }
    RestoreResult restore(const Manifest& backup) { return restore(backup, options()); }

    // The status of the error that it ends with; kDone if it succeeds. The message is kept.
    ExitStatus failure_of(const Manifest& backup, const RestoreOptions& options) {
        try {
            restore(backup, options);
            message_.clear();
            return ExitStatus::kDone;
        } catch (const Error& error) {
            message_ = error.message() + " / " + error.hint();
            return error.status();
        }
    }
    ExitStatus failure_of(const Manifest& backup) { return failure_of(backup, options()); }

    // Names in the scratch directory.
    std::set<std::string> names() const {
        std::set<std::string> names;
        for (const auto& entry : fs::directory_iterator(base())) {
            names.insert(entry.path().filename().string());
        }
        return names;
    }

    ScratchInMemory in_memory_;
    ScratchDirectory scratch_{"nodesnap-restore-test"};
    MadeRepository made_;
    Report report_;
    std::string message_;
};

}  // namespace nodesnap::test
