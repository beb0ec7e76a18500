// Backups of a directory on btrfs into a target in memory, one upon the other.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "snapshot/backup.h"
#include "snapshot/run_reader.h"
#include "snapshot/tree_path.h"
#include "tests/support/loop_mount.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {

class IncrementalFixture : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_.emplace("btrfs");
        std::filesystem::create_directory(node());
        write("large", 4 << 20, 'a');
        write("small", 5000, 'b');
        target_ = StrictTarget::make();
        Repository::create(*target_, "n1");
    }

    std::string node() const { return *mount_ / "node"; }
    void write(const std::string& name, std::size_t size, char content) const {
        std::ofstream(node() + "/" + name, std::ios::binary) << std::string(size, content);
    }
    void overwrite(const std::string& name, std::size_t offset, const std::string& content) const {
        std::fstream file(node() + "/" + name, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file << content;
    }
    Repository open() const { return Repository::open(target_, {}); }
    BackupResult backup(BackupOptions options = {}) {
        options.node_directory = node();
        options.state_directory = scratch_ / "state";
        options.scratch_directory = scratch_.path();
        Repository repository = open();
        Progress progress;
        return run_backup(repository, options, progress, report_);
    }
    std::string content_of(const Manifest& manifest, const std::string& name) const {
        const Repository repository = open();
        const auto found = find_path(repository, manifest, name);
        std::string content(found->second.size, '\0');
        MapReader(repository, found->second, name).read(std::as_writable_bytes(std::span(content)), 0);
        return content;
    }
    std::string content_of(const std::string& path) const {
        std::ifstream file(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }

    std::optional<LoopMount> mount_;
    ScratchDirectory scratch_{"nodesnap-incremental"};
    std::shared_ptr<StrictTarget> target_;
    Report report_;
};

}  // namespace nodesnap::test
