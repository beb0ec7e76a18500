#include "snapshot/drain/shared_extents.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "platform/btrfs_changes.h"
#include "platform/btrfs_references.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/drain/stored_runs.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

// What isn't found at one place is looked for again this much further.
constexpr std::uint64_t kStride = std::uint64_t{1} << 20;
constexpr std::int64_t kLongestSearchNs = 200'000'000;  // among those that refer to one place

// Looks at a file's extents here and there; cheap where one look is a little behind the one before.
class ExtentCursor {
public:
    ExtentCursor(int subvolume, std::uint64_t ino, std::string path) : subvolume_(subvolume), ino_(ino), path_(std::move(path)) {}

    // The one that covers `position`, or the next one behind it; nullptr if there is none.
    const btrfs::FileExtent* at_or_behind(std::uint64_t position) {
        constexpr std::uint64_t kNear = std::uint64_t{64} << 20;  // up to there they are gone through, instead of searched for
        if (!extents_ || position < position_ || position - position_ > kNear) {
            extents_.emplace(subvolume_, ino_, position, path_);
            ended_ = !extents_->next(extent_);
        }
        position_ = position;
        while (!ended_ && extent_.end() <= position) {
            ended_ = !extents_->next(extent_);
        }
        return ended_ ? nullptr : &extent_;
    }

private:
    const int subvolume_;
    const std::uint64_t ino_;
    const std::string path_;
    std::optional<btrfs::FileExtents> extents_;
    btrfs::FileExtent extent_;
    bool ended_ = false;
    std::uint64_t position_ = 0;
};

// A file of the parent backup.
struct Origin {
    Origin(const DrainState& state, std::uint64_t ino_, const std::string& path) : ino(ino_), extents(state.parent->source, ino_, path) {
        if (const auto value = tree_find(state.repository.nodes(), state.parent->backup.tree, key::inode(ino))) {
            Inode record = decode_inode(*value);
            if (record.type == FileType::kRegular && !record.damaged && record.run_count != 0) {
                runs.emplace(state.repository.nodes(), state.repository.packs(), std::move(record));
            }
        }
    }

    const std::uint64_t ino;
    ExtentCursor extents;
    std::optional<StoredRuns> runs;  // none if the backup hasn't got it, or not whole
};

class SharedExtents {
public:
    using Take = StoredRuns::Take;
    using Leave = StoredRuns::Leave;

    // `take` gets what the parent backup holds, as runs of this file, `leave` what is to be read.
    SharedExtents(const DrainState& state, std::uint64_t ino, std::uint64_t size, std::string path, Take take, Leave leave)
        : state_(state),
          ino_(ino),
          size_(size),
          path_(std::move(path)),
          older_(state.parent->backup.proof.otransid),
          extents_(state.source, ino, path_),
          take_(std::move(take)),
          leave_(std::move(leave)) {}

    // Takes or leaves all of [begin, end), in order. Both are whole pages, or the end of the file.
    void split(std::uint64_t begin, std::uint64_t end) {
        done_ = begin;
        try {
            split_by_extents(end);
        } catch (const Error&) {
            // Neither the snapshot's trees nor the parent backup need be whole for a file to be read: if more is wrong, that tells.
        }
        leave(end);
    }

    // Looks first whether the parent backup has the data where this file has it.
    void expect_itself() { guess_ = Guess{ino_, 0}; }

private:
    // Where the last piece was found, relative to where it was asked for: the next one mostly lies behind it.
    struct Guess {
        std::uint64_t ino = 0;
        std::uint64_t shift = 0;  // modulo 2^64
    };
    // That [position, end) of the file is what another one has from `offset` on.
    struct Place {
        std::uint64_t ino = 0;
        std::uint64_t offset = 0;
        std::uint64_t end = 0;
    };

    void leave(std::uint64_t end) {
        if (done_ < end) {
            leave_(done_, end);
            done_ = end;
        }
    }

    void split_by_extents(std::uint64_t end) {
        while (done_ < end && !interrupted()) {
            const btrfs::FileExtent* const extent = extents_.at_or_behind(done_);
            if (extent == nullptr || extent->offset >= end) {
                return;
            }
            const std::uint64_t stop = std::min(end, extent->end());
            leave(std::min(extent->offset, stop));
            while (extent->kind == btrfs::FileExtent::Kind::kData && extent->generation <= older_ && done_ < stop && !interrupted()) {
                if (const auto place = find(*extent, done_)) {
                    take(*place, std::min(stop, place->end));
                } else {
                    leave(std::min(stop, (done_ / kStride + 1) * kStride));
                }
            }
            leave(stop);
        }
    }

    std::optional<Place> find(const btrfs::FileExtent& extent, std::uint64_t position) {
        if (guess_) {
            if (auto place = place_in(guess_->ino, position + guess_->shift, extent, position)) {
                return place;
            }
        }
        if (!state_.sharing_cost.is_worthwhile()) {
            return std::nullopt;
        }
        const std::int64_t begun_ns = monotonic_ns();
        auto place = find_by_references(extent, position);
        state_.sharing_cost.nanoseconds += monotonic_ns() - begun_ns;
        return place;
    }

    std::optional<Place> find_by_references(const btrfs::FileExtent& extent, std::uint64_t position) {
        const std::uint64_t at = extent.extent_offset + (position - extent.offset);
        const std::int64_t deadline_ns = monotonic_ns() + kLongestSearchNs;
        for (const auto& reference : btrfs::references_to(state_.source, extent, at, path_)) {
            if (monotonic_ns() > deadline_ns) {
                break;
            }
            if (reference.subvolume != state_.parent_subvolume || !origin_of(reference.ino)) {
                continue;
            }
            if (auto place = place_in(reference.ino, reference.offset, extent, position)) {
                return place;
            }
        }
        return std::nullopt;
    }

    // If the piece at `offset` of the other file is of the same extent, and shows what this one does at `position`.
    std::optional<Place> place_in(std::uint64_t ino, std::uint64_t offset, const btrfs::FileExtent& extent, std::uint64_t position) {
        Origin* const origin = origin_of(ino);
        const btrfs::FileExtent* const covering = origin != nullptr ? origin->extents.at_or_behind(offset) : nullptr;
        if (covering == nullptr || covering->offset > offset || !btrfs::same_extent(*covering, extent)) {
            return std::nullopt;
        }
        const btrfs::FileExtent& piece = *covering;
        const std::uint64_t at = extent.extent_offset + (position - extent.offset);
        if (at < piece.extent_offset || at - piece.extent_offset >= piece.length || !stays_in_place(extent)) {
            return std::nullopt;
        }
        const Place place{ino, piece.offset + (at - piece.extent_offset), position + (piece.length - (at - piece.extent_offset))};
        guess_ = Guess{ino, place.offset - position};
        return place;
    }

    // The two were read at different times, after the drain began. That nothing was put there since proves that they are of one extent.
    bool stays_in_place(const btrfs::FileExtent& extent) const {
        const auto placed = btrfs::placed_by(state_.source, extent.disk_address, extent.disk_length, path_);
        return placed && *placed < state_.begun_in;
    }

    // nullptr if the parent backup hasn't got it, or not whole.
    Origin* origin_of(std::uint64_t ino) {
        if (!origin_ || origin_->ino != ino) {
            origin_.emplace(state_, ino, path_);
        }
        return origin_->runs ? &*origin_ : nullptr;
    }

    // Takes or leaves all up to `stop`.
    void take(const Place& place, std::uint64_t stop) {
        origin_of(place.ino)->runs->copy(
            done_, stop, place.offset, size_,
            [this](const Run& run) {
                take_(run);
                state_.sharing_cost.found_bytes += run.length;
                done_ = run.end();
            },
            [this](std::uint64_t, std::uint64_t end) { leave(end); });
    }

    const DrainState& state_;
    const std::uint64_t ino_;
    const std::uint64_t size_;
    const std::string path_;
    const std::uint64_t older_;
    ExtentCursor extents_;
    const Take take_;
    const Leave leave_;
    std::uint64_t done_ = 0;  // all before it was taken or left
    std::optional<Guess> guess_;
    std::optional<Origin> origin_;
};

// The extents of a file, those that are to be read.
class NotShared {
public:
    NotShared(DrainState& state, std::uint64_t ino, std::uint64_t size, LargeFile::NextExtent extents, const std::string& path)
        : size_(size),
          extents_(std::move(extents)),
          shared_(
              state, ino, size, path,
              [this, &state, ino](const Run& run) {
                  if (!std::exchange(any_, true)) {
                      state.note_edited(ino);
                  }
                  state.catalog.add_run(ino, run);
                  state.progress.bytes_done.fetch_add(run.length, std::memory_order_relaxed);
              },
              [this](std::uint64_t begin, std::uint64_t end) {
                  to_read_.push_back({begin, 0, end - begin, 0});
              }) {}

    bool next(Extent& extent) {
        while (to_read_.empty()) {
            if (!extents_(extent)) {
                return false;
            }
            const std::uint64_t end = std::min(extent.end(), size_);
            if ((extent.flags & kOlderExtent) == 0 || extent.logical >= end) {
                extent.flags &= ~kOlderExtent;
                return true;
            }
            shared_.split(extent.logical, end);
        }
        extent = to_read_.front();
        to_read_.pop_front();
        return true;
    }

private:
    const std::uint64_t size_;
    LargeFile::NextExtent extents_;
    std::deque<Extent> to_read_;
    SharedExtents shared_;
    bool any_ = false;
};

}  // namespace

LargeFile::NextExtent not_shared(DrainState& state, std::uint64_t ino, std::uint64_t size, LargeFile::NextExtent extents,
                                 const std::string& path) {
    const auto rest = std::make_shared<NotShared>(state, ino, size, std::move(extents), path);
    return [rest](Extent& extent) { return rest->next(extent); };
}

bool share_small(const DrainState& state, std::uint64_t ino, Inode& inode, const std::string& path) {
    std::vector<Run> runs;
    bool all = true;
    SharedExtents shared(
        state, ino, inode.size, path, [&runs](const Run& run) { runs.push_back(run); },
        [&all](std::uint64_t, std::uint64_t) { all = false; });
    shared.expect_itself();
    shared.split(0, inode.size);
    if (!all) {
        return false;
    }
    inode.run_count = runs.size();
    inode.runs = std::move(runs);
    return true;
}

}  // namespace nodesnap
