// DrainState: what the workers of one drain share. Everything in it is thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "io/progress.h"
#include "io/throttle.h"
#include "platform/error.h"
#include "snapshot/drain/catalog.h"
#include "snapshot/drain/counterparts.h"
#include "snapshot/drain/drain.h"
#include "snapshot/drain/earlier_drain.h"
#include "snapshot/drain/work_queue.h"

namespace nodesnap {

// What looking for files that share an extent has cost, and what it has spared. An extent may be shared by thousands.
struct SharingCost {
    std::atomic<std::int64_t> nanoseconds{0};
    std::atomic<std::uint64_t> found_bytes{0};

    bool is_worthwhile() const {
        constexpr std::int64_t kAtLeast = 5'000'000'000;
        constexpr std::uint64_t kNanosecondsPerByte = 25;  // more than reading a page of it costs: storing it costs space, too
        return nanoseconds < kAtLeast + static_cast<std::int64_t>(found_bytes * kNanosecondsPerByte);
    }
};

struct DrainState {
    DrainState(int source_, const Repository& repository_, const SessionId& session_, const DrainParent* parent_,
               const DrainOptions& options_, Progress& progress_, Report& report_);

    const int source;
    const Repository& repository;
    const SessionId session;
    const DrainParent* const parent;                 // or nullptr
    const std::uint64_t subvolume;                   // that holds the source; where a parent tells changes only
    const std::uint64_t parent_subvolume;            // the parent's snapshot; likewise
    const std::uint64_t begun_in;                    // the transaction that ran when the drain began; likewise
    const std::optional<Counterparts> counterparts;  // where contents are compared with the parent's
    const DrainOptions& options;
    Progress& progress;
    Report& report;

    WorkQueue queue;
    Catalog catalog;
    std::unique_ptr<const EarlierDrain> earlier;  // with DrainOptions::resumed
    Throttle read_throttle;
    Throttle write_throttle;

    std::atomic<std::uint64_t> read_bytes{0}, new_bytes{0}, stored_bytes{0}, unreadable_files{0};  // new: of file data, not referred to
    std::atomic<std::uint64_t> read_files{0};
    std::atomic<bool> damaged{false};
    mutable SharingCost sharing_cost;

    // Files and ranges that one worker may have in flight: each file has a descriptor.
    std::size_t units_in_flight(unsigned workers) const;

    // How long a pack may stay open before it is sealed as a checkpoint.
    std::chrono::nanoseconds checkpoint_interval() const;
    // Called once, by whoever stores a log first.
    void begin_journal() { std::call_once(journal_begun_, options.begin_journal); }

    PackId next_pack_id() { return PackId::of(session, pack_counter_++); }
    std::uint32_t next_pack() const { return pack_counter_; }

    // True for the first to ask for an inode. Remembers a bounded number: past that a file with several links may be read once for each.
    bool claim_linked(std::uint64_t ino);
    // Stores the names of an owner once (or a few times: the catalog keeps the first).
    void note_owner(std::uint32_t uid, std::uint32_t gid);

    // With skip_unreadable: reports the path and goes on, with the backup marked damaged. Otherwise throws `error`, with the remedy.
    void unreadable(const std::string& path, const Error& error);

    // Throws if no more may be read of the source.
    void check_time() const;
    // Called by each of the workers when it has nothing more to read. The last one tells DrainOptions::all_is_read, where there is that;
    // the others wait for it, so that they don't hinder who still reads.
    void end_reading(unsigned workers);
    std::chrono::nanoseconds reading_time() const { return std::chrono::nanoseconds(reading_ns_.load()); }

    // The first failure of any thread; stops the others.
    void fail(std::exception_ptr failure);
    void rethrow_failure();

    // A file whose map is edited; a few of them are remembered for the audit.
    void note_edited(std::uint64_t ino);
    std::vector<std::uint64_t> edited() const;

    void add_packs(const std::vector<PackId>& packs);
    std::vector<PackId> packs() const;
    void set_fallback_reason(const std::string& reason);
    std::string fallback_reason() const;

private:
    static constexpr std::size_t kUnitsInFlight = 64;
    static constexpr std::size_t kRememberedLinks = 256U << 10;
    static constexpr std::size_t kRememberedOwners = 4096;
    static constexpr std::size_t kRememberedEdits = 1024;

    const std::int64_t begun_ns_;
    std::once_flag journal_begun_;
    std::mutex reading_mutex_;
    std::condition_variable reading_ended_;
    unsigned readers_done_ = 0;
    bool all_is_read_ = false;
    std::atomic<std::int64_t> reading_ns_{0};
    mutable std::mutex mutex_;
    std::atomic<std::uint32_t> pack_counter_;
    std::unordered_set<std::uint64_t> linked_;
    std::unordered_set<std::uint64_t> owners_;
    std::exception_ptr failure_;
    std::vector<PackId> packs_;
    std::vector<std::uint64_t> edited_;
    std::uint64_t edits_noted_ = 0;
    std::uint64_t descriptors_;  // that this process may have open
    std::string fallback_reason_;
};

}  // namespace nodesnap
