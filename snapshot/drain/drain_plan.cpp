#include "snapshot/drain/drain_plan.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "platform/btrfs_tree.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/file_extents.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/drain/unchanged_file.h"
#include "snapshot/drain/walk.h"

namespace nodesnap {
namespace {

class PlanSink : public SourceSink {
public:
    PlanSink(DrainState& state, DrainPlan& plan) : state_(state), plan_(plan) {}

    void found(std::uint64_t, const std::string&, const Dirent&) override {}
    void take(std::unique_ptr<Batch> batch) override {
        for (const SourceEntry& entry : batch->entries) {
            if (entry.d_type == DT_REG) {
                add(*batch->directory, entry);
            }
        }
    }
    void unreadable(const std::string&, const Error&) override {}
    void lost(std::uint64_t) override {}
    bool stopped() const override { return false; }

private:
    void add(const SourceDirectory& directory, const SourceEntry& entry) {
        constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME | O_NONBLOCK;
        const int fd = directory.fd ? try_open_long(directory.fd.get(), entry.name, kFlags)
                                    : btrfs::try_open_inode(state_.source, state_.subvolume, entry.ino, entry.generation, kFlags);
        if (fd < 0) {
            return;
        }
        const FileDescriptor file(fd);
        const std::string path = directory.place.path_of(entry.name);
        try {
            const SourceInode source = read_source_inode(fd, true, nullptr, path);
            if (source.inode.type != FileType::kRegular || (source.inode.links > 1 && !state_.claim_linked(entry.ino))) {
                return;
            }
            const bool all_are_found = state_.parent != nullptr && state_.parent->files != nullptr;  // not only what has changed
            // Where nothing but contents is compared it isn't looked up.
            const auto stored =
                all_are_found && state_.counterparts ? state_.counterparts->file(directory, entry, source.inode) : std::nullopt;
            const std::uint64_t bytes = bytes_of(fd, entry.ino, source, stored, path);
            plan_.files += !all_are_found || bytes != 0 ? 1 : 0;
            plan_.bytes += bytes;
            state_.progress.files_done.fetch_add(1, std::memory_order_relaxed);
        } catch (const Error& error) {
            if (error.error_number() == 0) {
                throw;
            }
            // Gone meanwhile, or unreadable: the drain will tell.
        }
    }

    std::uint64_t bytes_of(int fd, std::uint64_t ino, const SourceInode& source, const std::optional<Counterpart>& stored,
                           const std::string& path) {
        const Inode& inode = source.inode;
        if (will_be_taken_over(state_, fd, ino)) {
            return 0;
        }
        const std::uint64_t allocated = static_cast<std::uint64_t>(stat_fd(fd, path).stx_blocks) * 512;
        if (const Content content = content_of(inode.size, allocated); content != Content::kRanges) {
            Inode taken_over = inode;
            const bool is_taken_over =
                take_over_small(state_, fd, ino, content, taken_over, path) ||
                (content == Content::kWhole && stored && take_over_small(state_, fd, ino, *stored, taken_over, path));
            return is_taken_over ? 0 : inode.size;
        }
        const FileExtents extents = extents_to_read(state_, fd, ino, source, stored, path);
        std::uint64_t bytes = 0;
        for (Extent extent; extents.next(extent);) {
            interrupt::throw_if_interrupted();
            if (!extent.unwritten() && extent.logical < inode.size) {
                bytes += std::min(extent.end(), inode.size) - extent.logical;
            }
        }
        return bytes;
    }

    DrainState& state_;
    DrainPlan& plan_;
};

}  // namespace

DrainPlan plan_drain(int source, const Repository& repository, const ExcludeRules& excludes, const DrainParent* parent,
                     const DrainOptions& options, Progress& progress, Report& report) {
    DrainState state(source, repository, {}, parent, options, progress, report);
    DrainPlan plan;
    PlanSink sink(state, plan);
    walk_source(state, stat_fd(source).stx_ino, excludes, sink);
    return plan;
}

}  // namespace nodesnap
