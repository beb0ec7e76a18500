#include "snapshot/backend/lvm_merge.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "platform/lvm_merge.h"
#include "snapshot/backend/lvm_merge_room.h"
#include "snapshot/backend/lvm_snapshot.h"

namespace nodesnap {
namespace {

constexpr std::chrono::milliseconds kBetween(100);
constexpr std::int64_t kLongestOpenNs = 10'000'000'000;  // who only looks at a device doesn't take as long
constexpr int kLooksWithoutEnd = 50;                     // at what is copied, but not ended: then nobody looks after it
constexpr const char* kWritten = "something has been written to the volume since, or might have been";

// The snapshot of ours by that name.
std::optional<lvm::Volume> named(const std::vector<lvm::Volume>& volumes, const std::string& name) {
    const auto found = std::find_if(volumes.begin(), volumes.end(), [&](const lvm::Volume& volume) {
        return volume.name == name && volume.has_tag(kVolumeTag) && volume.is_classic_snapshot();
    });
    return found == volumes.end() ? std::nullopt : std::optional(*found);
}

template <typename Holds>
bool wait_for(std::int64_t longest_ns, Holds holds) {
    const std::int64_t deadline = monotonic_ns() + longest_ns;
    while (!holds()) {
        if (monotonic_ns() >= deadline) {
            return false;
        }
        std::this_thread::sleep_for(kBetween);
    }
    return true;
}

}  // namespace

LvmMerge::Stage LvmMerge::stage() const {
    if (note().written.empty()) {
        return Stage::kNotBegun;
    }
    const std::vector<lvm::Volume> all = volumes();
    if (with_uuid(all, note().made)) {  // one that is merged isn't shown any more
        return Stage::kNotBegun;
    }
    const auto volume = with_uuid(all, note().replaced);
    return volume && volume->is_merging() ? Stage::kMerging : Stage::kMerged;
}

void LvmMerge::wait_until_closed() const {
    std::string open;
    const bool closed = wait_for(kLongestOpenNs, [&] {
        open.clear();
        for (const lvm::Volume& volume : volumes()) {
            if (volume.is_open() && (volume.uuid == note().replaced || volume.uuid == note().made)) {
                open = volume.full_name();
            }
        }
        return open.empty();
    });
    if (!closed) {
        throw Error::failed(open + " is still open, though unmounted, and can't be merged",
                            "see who has it open (lsof, dmsetup ls --tree)");
    }
}

void LvmMerge::keep_present() const {
    const std::vector<lvm::Volume> all = volumes();
    const auto merged = with_uuid(all, note().made);
    const auto origin = with_uuid(all, note().replaced);
    if (!merged || !origin) {
        throw Error::failed("lvs doesn't list " + note().group_name + "/" + (origin ? note().merged : note().name) + " any more");
    }
    refuse_overflows(*origin, *merged, all);  // it may be a while since that was looked at
    lvm::create_snapshot(*origin, {note().kept, extents_of_kept(*origin, *merged), merged->chunk_bytes, {kVolumeTag}});
}

void LvmMerge::take_back() const {
    if (const auto kept = named(volumes(), note().kept)) {
        remove_own_volume(*kept);
    }
}

void LvmMerge::begin() const {
    try {
        lvm::begin_merge(need(note().made));
    } catch (const Error&) {
        if (stage() == Stage::kNotBegun) {
            throw;
        }
    }
    fault::step("rollback.merge-asked");
    require_under_way();
}

void LvmMerge::require_under_way() const {
    const bool under_way = wait_for(kLongestOpenNs, [this] {
        const lvm::Volume now = volume();
        if (!now.is_merging() || lvm::merge_state(now)) {
            return true;
        }
        lvm::begin_merge_put_off(now);
        return !volume().is_merging() || lvm::merge_state(now).has_value();
    });
    if (!under_way) {
        throw Error::failed("LVM puts the merge of " + note().group_name + "/" + note().merged + " off, since it or " + note().group_name +
                                "/" + note().name + " is open",
                            "see who has it open (lsof, dmsetup ls --tree)");
    }
}

bool LvmMerge::wait(const std::function<bool(std::uint64_t)>& go_on) const {
    const lvm::Volume origin = volume();
    int looks = 0;
    for (;;) {
        const auto merge = lvm::merge_state(origin);
        if (merge && merge->failed) {
            throw Error::failed("the kernel couldn't merge " + note().group_name + "/" + note().merged + " as a whole",
                                "what the kernel's log (dmesg) says may tell more");
        }
        const std::uint64_t left = merge ? merge->left_bytes : 0;
        if (left == 0 && !volume().is_merging()) {
            return true;
        }
        if (!go_on(left)) {
            return false;
        }
        looks = left == 0 ? looks + 1 : 0;
        if (looks == kLooksWithoutEnd) {
            looks = 0;
            lvm::watch_merge(origin);
        }
        std::this_thread::sleep_for(kBetween);
    }
}

bool LvmMerge::is_unwritten() const {
    return !note().written.empty() && shown() == LvmShown::kNothing && lvm::write_mark(volume()) == note().written;
}

std::string LvmMerge::renew() const noexcept {
    try {
        return try_to_renew();
    } catch (const std::exception& error) {
        return error.what();
    }
}

std::string LvmMerge::try_to_renew() const {
    auto anew = named(volumes(), note().merged);
    if (anew && !anew->has_tag(kExchangeTag)) {
        return "";
    }
    const bool before = is_unwritten();
    if (!anew && before) {
        const lvm::Volume origin = volume();
        lvm::create_snapshot(origin, {note().merged,
                                      note().merged_bytes / origin.extent_bytes,
                                      note().merged_chunk_bytes,
                                      {kVolumeTag, kExchangeTag, tag_of_time(note().merged_at_s)}});
        fault::step("rollback.anew");
        anew = named(volumes(), note().merged);
    }
    if (!anew) {
        return kWritten;
    }
    // Nobody could have written to the volume before it was made, if nobody has even now.
    if (!is_unwritten()) {
        remove_own_volume(*anew);
        return kWritten;
    }
    lvm::change_tags(*anew, "", kExchangeTag);
    return "";
}

std::string LvmMerge::flaw_of_kept() const {
    const auto kept = named(volumes(), note().kept);
    return kept ? flaw_of_snapshot(*kept) : "isn't there any more";
}

FileDescriptor LvmMerge::mount_back() const {
    if (known_shown() != LvmShown::kNothing) {
        return {};
    }
    switch (stage()) {
        case Stage::kMerging:
            require_under_way();
            break;
        case Stage::kMerged:
            renew();
            break;
        default:
            break;
    }
    return mount(note().replaced, {});
}

std::string finish_merge(LvmRollbackRecord& record) {
    const LvmRollbackNote note = record.note();
    const LvmMerge merge(note);
    const LvmShown shown = merge.known_shown();
    if (merge.stage() == LvmMerge::Stage::kNotBegun) {
        merge.mount_back();
        merge.take_back();
        record.remove();
        return told_as_undone(note);
    }
    if (shown == LvmShown::kNothing) {
        merge.require_under_way();
        merge.wait([](std::uint64_t) {
            throw_if_interrupted();
            return true;
        });
    }
    const std::string lost = merge.renew();
    const std::string flaw = merge.flaw_of_kept();
    merge.mount_back();
    record.remove();
    return told_as_done(note) + (flaw.empty() ? "" : ", but that " + flaw) + (lost.empty() ? "" : "; " + told_of_lost(note, lost));
}

}  // namespace nodesnap
