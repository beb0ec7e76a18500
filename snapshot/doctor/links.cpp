#include "snapshot/doctor/links.h"

#include <dirent.h>
#include <fcntl.h>

#include <memory>

#include "io/units.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/drain/source_walk.h"

namespace nodesnap {
namespace {

// What can be copied in about a second.
constexpr std::uint64_t kMuch = 1ULL << 30;

class LinkSink : public SourceSink {
public:
    explicit LinkSink(const ExcludeRules& immutable) : immutable_(immutable) {}

    void found(std::uint64_t, const std::string&, const Dirent&) override {}
    void take(std::unique_ptr<Batch> batch) override {
        for (const SourceEntry& entry : batch->entries) {
            const auto status = entry.d_type == DT_REG ? stat_at(batch->directory->fd.get(), entry.name) : std::nullopt;
            if (!status) {
                continue;
            }
            constexpr std::uint64_t kSector = 512;
            if (immutable_.matches_tree(batch->directory->place.whole_path_of(entry.name), false)) {
                ++linked_files;
                linked_bytes += status->stx_blocks * kSector;
            } else {
                ++copied_files;
                copied_bytes += status->stx_blocks * kSector;
            }
        }
    }
    void unreadable(const std::string&, const Error&) override {}
    void lost(std::uint64_t) override {}
    bool stopped() const override { return false; }

    std::uint64_t linked_files = 0, linked_bytes = 0, copied_files = 0, copied_bytes = 0;

private:
    const ExcludeRules& immutable_;
};

}  // namespace

void examine_links(const std::string& node_directory, const ExcludeRules& excludes, const std::vector<std::string>& immutable,
                   Findings& findings) {
    const ExcludeRules patterns(immutable);
    LinkSink sink(patterns);
    const FileDescriptor root = open_path(node_directory, O_RDONLY | O_DIRECTORY);
    SourceWalk(root.get(), stat_fd(root.get()).stx_ino, excludes, sink).run();
    findings.fact("links", std::to_string(sink.linked_files) + " files of " + human_bytes(sink.linked_bytes) +
                               " fit --immutable and would be linked; " + std::to_string(sink.copied_files) + " of " +
                               human_bytes(sink.copied_bytes) + " don't, and would be copied while the daemon is held");
    if (sink.linked_files == 0) {
        findings.warn("links", "no file fits --immutable", "name those that are never written to again, or use --snapshot none");
    } else if (sink.copied_bytes > kMuch) {
        findings.warn(
            "links",
            human_bytes(sink.copied_bytes) + " would be copied while the daemon is held, and take that space until the next backup",
            "name more files that are never written to again, or use --snapshot none, which reads them beforehand");
    }
}

}  // namespace nodesnap
