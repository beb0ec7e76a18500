#include "snapshot/drain/drain_state.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "platform/btrfs.h"
#include "platform/btrfs_references.h"
#include "platform/clock.h"
#include "platform/entry.h"
#include "platform/host.h"
#include "platform/random.h"

namespace nodesnap {

DrainState::DrainState(int source_, const Repository& repository_, const SessionId& session_, const DrainParent* parent_,
                       const DrainOptions& options_, Progress& progress_, Report& report_)
    : source(source_),
      repository(repository_),
      session(session_),
      parent(parent_),
      subvolume(parent_ != nullptr && parent_->tells_changes() ? btrfs::subvolume_id(source_) : 0),
      parent_subvolume(parent_ != nullptr && parent_->tells_changes() ? btrfs::subvolume_id(parent_->source) : 0),
      begun_in(parent_ != nullptr && parent_->tells_changes() ? btrfs::current_transaction(source_) : 0),
      counterparts(parent_ != nullptr && !parent_->tells_changes()
                       ? std::optional<Counterparts>(std::in_place, repository_, *parent_, options_.clones)
                       : std::nullopt),
      options(options_),
      progress(progress_),
      report(report_),
      catalog(options_.scratch_directory),
      read_throttle(options_.cap, options_.limit_bytes_per_second),
      write_throttle(options_.cap, options_.limit_bytes_per_second),
      begun_ns_(monotonic_ns()),
      pack_counter_(options_.first_pack),
      descriptors_(entry::raise_descriptor_limit()) {}

namespace {

// What opening, listing or reading gives of something that was removed, replaced by another kind, or cut off meanwhile.
bool may_be_a_change(int number) {
    constexpr std::array kChanges = {ENOENT, ENODATA, ESTALE, ENOTDIR, EISDIR, ELOOP, ENXIO, ENODEV};
    return std::find(kChanges.begin(), kChanges.end(), number) != kChanges.end();
}

}  // namespace

// Of the descriptors, a quarter is for files that are being read and a quarter for large ones that wait; the rest for directories, packs,
// rings.
std::size_t DrainState::units_in_flight(unsigned workers) const {
    return std::clamp<std::size_t>(descriptors_ / 4 / workers, 4, kUnitsInFlight);
}

// Where a drain is slow, packs get small; the longer it takes, the less an interval counts.
std::chrono::nanoseconds DrainState::checkpoint_interval() const {
    constexpr std::chrono::nanoseconds kLongest = std::chrono::minutes(1);
    constexpr int kShare = 64;
    const std::chrono::nanoseconds elapsed(monotonic_ns() - begun_ns_);
    return std::clamp<std::chrono::nanoseconds>(elapsed / kShare, options.checkpoint_interval,
                                                std::max(options.checkpoint_interval, kLongest));
}

bool DrainState::claim_linked(std::uint64_t ino) {
    const std::lock_guard lock(mutex_);
    if (linked_.size() >= kRememberedLinks) {
        return !linked_.contains(ino);
    }
    return linked_.insert(ino).second;
}

void DrainState::note_owner(std::uint32_t uid, std::uint32_t gid) {
    {
        const std::lock_guard lock(mutex_);
        if (!owners_.insert(std::uint64_t{uid} << 32 | gid).second) {
            return;
        }
        if (owners_.size() > kRememberedOwners) {
            owners_.clear();
        }
    }
    if (const auto name = user_name(uid)) {
        catalog.add_user(uid, *name);
    }
    if (const auto name = group_name(gid)) {
        catalog.add_group(gid, *name);
    }
}

void DrainState::unreadable(const std::string& path, const Error& error) {
    const int number = error.error_number();
    // Our own shortage isn't the source's damage.
    const bool ours = number == EMFILE || number == ENFILE || number == ENOMEM || number == ENOBUFS;
    const bool tolerated = options.tolerate_changes && (number == ENOENT || number == ENODATA || number == ESTALE);
    if (ours) {
        throw error;
    }
    if (options.is_warm_pass && (options.skip_unreadable || may_be_a_change(number))) {
        damaged = true;
        return;
    }
    if (!options.skip_unreadable && !tolerated) {
        throw Error(error.status(), error.message(),
                    "the source could not be read; check its device (dmesg), or store what can be read with --skip-unreadable", number);
    }
    damaged = true;
    ++unreadable_files;
    report.warn("unreadable, stored as damaged: " + path + ": " + error.message());
}

void DrainState::fail(std::exception_ptr failure) {
    {
        const std::lock_guard lock(mutex_);
        if (!failure_) {
            failure_ = std::move(failure);
        }
    }
    queue.abort();
    const std::lock_guard lock(reading_mutex_);
    reading_ended_.notify_all();
}

void DrainState::check_time() const {
    if (options.check_source) {
        options.check_source();
    }
    if (options.read_until_ns != 0 && monotonic_ns() > options.read_until_ns) {
        throw Error::failed(
            "what has changed could not be read in the time that the daemon may be held (--max-downtime)",
            "allow a longer downtime; or find out what is large and written to all the time, since of a file that has changed "
            "all is read");
    }
}

void DrainState::end_reading(unsigned workers) {
    std::unique_lock lock(reading_mutex_);
    if (++readers_done_ < workers) {
        if (options.all_is_read) {
            reading_ended_.wait(lock, [this] { return all_is_read_ || queue.aborted(); });
        }
        return;
    }
    lock.unlock();
    reading_ns_ = monotonic_ns() - begun_ns_;
    if (options.all_is_read) {
        check_time();
        options.all_is_read();
        lock.lock();
        all_is_read_ = true;
        reading_ended_.notify_all();
    }
}

void DrainState::rethrow_failure() {
    const std::lock_guard lock(mutex_);
    if (failure_) {
        std::rethrow_exception(failure_);
    }
}

// Each of all that are noted has the same chance to be among those that are remembered.
void DrainState::note_edited(std::uint64_t ino) {
    const std::lock_guard lock(mutex_);
    ++edits_noted_;
    if (edited_.size() < kRememberedEdits) {
        edited_.push_back(ino);
    } else if (const std::uint64_t place = random_u64() % edits_noted_; place < kRememberedEdits) {
        edited_[place] = ino;
    }
}

std::vector<std::uint64_t> DrainState::edited() const {
    const std::lock_guard lock(mutex_);
    return edited_;
}

void DrainState::add_packs(const std::vector<PackId>& packs) {
    const std::lock_guard lock(mutex_);
    packs_.insert(packs_.end(), packs.begin(), packs.end());
}

std::vector<PackId> DrainState::packs() const {
    const std::lock_guard lock(mutex_);
    return packs_;
}

void DrainState::set_fallback_reason(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    fallback_reason_ = reason;
}

std::string DrainState::fallback_reason() const {
    const std::lock_guard lock(mutex_);
    return fallback_reason_;
}

}  // namespace nodesnap
