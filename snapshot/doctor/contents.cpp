#include "snapshot/doctor/contents.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "snapshot/drain/source_walk.h"

namespace nodesnap {
namespace {

constexpr std::size_t kLargest = 16;
constexpr std::size_t kNamed = 5;  // in one message

// Where a symlink leads, if that is a file or directory outside of the node directory; otherwise empty.
std::string leads_out(const std::string& node_directory, const std::string& path) {
    std::error_code error;
    const auto target = std::filesystem::canonical(std::filesystem::path(node_directory) / path, error);
    if (error || target == node_directory || target.string().starts_with(node_directory + "/")) {
        return "";
    }
    return std::filesystem::is_regular_file(target, error) || std::filesystem::is_directory(target, error) ? target.string() : "";
}

class ContentsSink : public SourceSink {
public:
    ContentsSink(std::string node_directory, Progress& progress) : node_directory_(std::move(node_directory)), progress_(progress) {}

    void found(std::uint64_t, const std::string&, const Dirent&) override {}
    void take(std::unique_ptr<Batch> batch) override {
        for (const SourceEntry& entry : batch->entries) {
            const std::string path = batch->directory->place.path_of(entry.name);
            if (entry.d_type == DT_REG) {
                add_file(*batch->directory, entry, path);
            } else {
                (entry.d_type == DT_DIR ? contents_.directories : contents_.others) += 1;
                if (entry.d_type == DT_LNK) {
                    add_symlink(path);
                }
            }
        }
    }
    void unreadable(const std::string& path, const Error& error) override {
        unreadable_ += 1;
        first_unreadable_ = first_unreadable_.empty() ? path + ": " + error.message() : first_unreadable_;
    }
    void lost(std::uint64_t) override {}
    bool stopped() const override { return false; }

    Contents& contents() { return contents_; }

    void tell(Findings& findings) const {
        if (!outside_.empty()) {
            std::string text = std::to_string(outside_count_) + " symlink(s) lead out of the node directory: ";
            for (const std::string& one : outside_) {
                text += (&one == &outside_.front() ? "" : ", ") + one;
            }
            findings.warn("elsewhere", text + (outside_count_ > outside_.size() ? ", ..." : "") + "; what they lead to isn't in the backup",
                          "back that up as a node of its own, held by the same hold, or move it into the node directory");
        }
        if (unreadable_ != 0) {
            findings.warn("permissions", std::to_string(unreadable_) + " directories can't be read, such as " + first_unreadable_,
                          "run as root");
        }
    }

private:
    void add_file(const SourceDirectory& directory, const SourceEntry& entry, const std::string& path) {
        ++contents_.files;
        const auto status = directory.fd ? stat_at(directory.fd.get(), entry.name) : std::nullopt;
        if (!status) {
            return;  // gone meanwhile
        }
        const std::uint64_t allocated = status->stx_blocks * 512;
        contents_.bytes += allocated;
        progress_.files_done.fetch_add(1, std::memory_order_relaxed);
        auto& largest = contents_.largest;
        const std::uint64_t bytes = std::min<std::uint64_t>(allocated, status->stx_size);
        if (largest.size() == kLargest && bytes <= largest.back().bytes) {
            return;
        }
        const auto behind = std::find_if(largest.begin(), largest.end(), [&](const LargestFile& one) { return one.bytes < bytes; });
        largest.insert(behind, {path, bytes});
        largest.resize(std::min(largest.size(), kLargest));
    }

    void add_symlink(const std::string& path) {
        const std::string target = leads_out(node_directory_, path);
        if (target.empty()) {
            return;
        }
        ++outside_count_;
        if (outside_.size() < kNamed) {
            outside_.push_back(path + " -> " + target);
        }
    }

    const std::string node_directory_;
    Progress& progress_;
    Contents contents_;
    std::vector<std::string> outside_;
    std::uint64_t outside_count_ = 0;
    std::uint64_t unreadable_ = 0;
    std::string first_unreadable_;
};

// By the largest files: looking at all would open all.
void examine_checksums(const std::string& node_directory, const Contents& contents, Findings& findings) {
    if (!btrfs::is_btrfs(node_directory)) {
        return;
    }
    std::string without;
    for (const LargestFile& file : contents.largest) {
        try {
            const FileDescriptor fd = open_path(node_directory + "/" + file.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
            if ((inode_flags(fd.get()).value_or(0) & FS_NOCOW_FL) != 0) {
                without = without.empty() ? file.path : without;
            }
        } catch (const Error&) {
            continue;  // gone, or not ours to open: said elsewhere
        }
    }
    if (!without.empty()) {
        findings.warn(
            "checksums",
            "files without copy-on-write (chattr +C), such as " + without +
                ": btrfs keeps no checksums of them, so that it can't tell damage from data, and each snapshot makes it copy what is "
                "overwritten next all the same",
            "copy them into a directory without the C attribute, unless the database checks its own pages");
    }
}

}  // namespace

Contents examine_contents(const std::string& node_directory, const ExcludeRules& excludes, Progress& progress, Findings& findings) {
    const FileDescriptor root = open_path(node_directory, O_RDONLY | O_DIRECTORY);
    ContentsSink sink(node_directory, progress);
    SourceWalk(root.get(), stat_fd(root.get()).stx_ino, excludes, sink).run();
    sink.tell(findings);
    examine_checksums(node_directory, sink.contents(), findings);
    return std::move(sink.contents());
}

}  // namespace nodesnap
