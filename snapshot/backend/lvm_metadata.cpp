#include "snapshot/backend/lvm_metadata.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "platform/lvm_thin.h"
#include "snapshot/backend/lvm_snapshot.h"

namespace nodesnap {
namespace {

constexpr std::string_view kMark = "nodesnap.metadata.";  // and where they are, or:
constexpr std::string_view kNotYet = "soon";

std::string tag_of(std::uint64_t reserved) {
    return std::string(kMark) + std::to_string(reserved);
}

bool is_mark(const std::string& tag) {
    return tag.starts_with(kMark);
}

bool is_ours(const lvm::Volume& volume, const lvm::Volume& pool) {
    return volume.pool == pool.name && volume.group_uuid == pool.group_uuid && volume.has_tag(kVolumeTag);
}

FileDescriptor wait_for_lock(const lvm::Volume& pool) {
    constexpr std::chrono::milliseconds kInterval{100};
    constexpr std::chrono::nanoseconds kLongest = std::chrono::minutes(10);
    const std::int64_t deadline = monotonic_ns() + kLongest.count();
    for (;;) {
        if (FileDescriptor lock = lvm::lock_metadata(pool)) {
            return lock;
        }
        if (monotonic_ns() >= deadline) {
            throw Error::failed("another nodesnap has the metadata of the thin pool " + pool.full_name() + " reserved", "see what it does");
        }
        throw_if_interrupted();
        std::this_thread::sleep_for(kInterval);
    }
}

// With the lock. Throws if somebody else has them reserved.
void clear_left(const lvm::Volume& pool, const std::vector<lvm::Volume>& volumes) {
    std::vector<std::string> tags;
    for (const lvm::Volume& volume : volumes) {
        if (is_ours(volume, pool)) {
            tags.insert(tags.end(), volume.tags.begin(), volume.tags.end());
        }
    }
    const ReservedBy by = who_reserved(lvm::pool_fill(pool).reserved_metadata, tags);
    if (by == ReservedBy::kUs) {
        lvm::release_metadata(pool);
        fault::step("lvm.left-metadata-released");
    }
    for (const lvm::Volume& volume : volumes) {
        for (const std::string& tag : is_ours(volume, pool) ? volume.tags : std::vector<std::string>()) {
            if (is_mark(tag)) {
                lvm::change_tags(volume, "", tag);
            }
        }
    }
    if (by == ReservedBy::kOthers) {
        throw Error::failed(
            "the metadata of the thin pool " + pool.full_name() + " are reserved by another program",
            "where none is at work on it, `dmsetup message` to the pool's device (-tpool) releases them: 0 release_metadata_snap");
    }
}

}  // namespace

ReservedBy who_reserved(std::uint64_t reserved, const std::vector<std::string>& tags) {
    if (reserved == 0) {
        return ReservedBy::kNobody;
    }
    const std::string known = tag_of(reserved);
    const std::string unknown = std::string(kMark) + std::string(kNotYet);
    const bool ours = std::any_of(tags.begin(), tags.end(), [&](const std::string& tag) { return tag == known || tag == unknown; });
    return ours ? ReservedBy::kUs : ReservedBy::kOthers;
}

bool has_metadata_mark(const lvm::Volume& volume) {
    return std::any_of(volume.tags.begin(), volume.tags.end(), is_mark);
}

void release_left_metadata(const lvm::Volume& pool, const std::vector<lvm::Volume>& volumes) {
    const bool any = std::any_of(volumes.begin(), volumes.end(),
                                 [&](const lvm::Volume& volume) { return is_ours(volume, pool) && has_metadata_mark(volume); });
    const FileDescriptor lock = any ? lvm::lock_metadata(pool) : FileDescriptor();
    if (!lock) {
        return;
    }
    try {
        // As they are now that nobody else of ours is at it.
        clear_left(pool, lvm::list_volumes(pool.group));
    } catch (const Error& error) {
        throw_if_interrupted();
        if (lvm::pool_fill(pool).reserved_metadata == 0) {
            throw;
        }
        // Somebody else's are none of our business.
    }
}

ReservedMetadata::ReservedMetadata(lvm::Volume pool, lvm::Volume marked)
    : pool_(std::move(pool)), marked_(std::move(marked)), lock_(wait_for_lock(pool_)) {
    clear_left(pool_, lvm::list_volumes(pool_.group));
    try {
        mark();
    } catch (...) {
        try {
            release();
        } catch (const std::exception&) {
            // Announced in the header: the next command does it.
        }
        throw;
    }
}

void ReservedMetadata::mark() {
    const std::string unknown = std::string(kMark) + std::string(kNotYet);
    lvm::change_tags(marked_, unknown, "");
    tag_ = unknown;
    fault::step("lvm.metadata-marked");
    lvm::reserve_metadata(pool_);
    reserved_ = true;
    fault::step("lvm.metadata-reserved");
    const std::string known = tag_of(lvm::pool_fill(pool_).reserved_metadata);
    lvm::change_tags(marked_, known, unknown);
    tag_ = known;
    fault::step("lvm.metadata-noted");
}

void ReservedMetadata::release() {
    if (std::exchange(reserved_, false)) {
        lvm::release_metadata(pool_);
        fault::step("lvm.metadata-released");
    }
    if (const std::string tag = std::exchange(tag_, ""); !tag.empty()) {
        lvm::change_tags(marked_, "", tag);
    }
}

ReservedMetadata::~ReservedMetadata() {
    try {
        release();
    } catch (const std::exception&) {
        // Announced in the header.
    }
}

}  // namespace nodesnap
