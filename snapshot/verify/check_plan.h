// CheckPlan: which of the data packs in scope are read in this run, in which order, and how much of them has been checked when all is
// done. Without a sample a pack is read as soon as it is met; for a sample all must be known first, so they are sorted outside of memory.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "io/progress.h"
#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/repository.h"
#include "snapshot/verify/check_history.h"
#include "snapshot/verify/data.h"
#include "snapshot/verify/findings.h"
#include "snapshot/verify/meanwhile.h"

namespace nodesnap {

class CheckPlan {
public:
    CheckPlan(const Repository& repository, const VerifyOptions& options, Findings& findings, Progress& progress, Meanwhile& meanwhile);

    // A data pack that a backup needs. In ascending order of packs, from one thread; finish() is called when there are no more.
    void add(std::shared_ptr<const PackReader> pack);
    // One that is there, but can't be opened; or that is missing.
    void add_unreadable(const PackId& pack, std::uint32_t generation, std::uint64_t bytes);
    void add_missing(const PackId& pack);
    void finish();         // reads what is left to be read, and remembers what was checked
    void stop() noexcept;  // for who is left by an exception: reads no more, and remembers what was checked

    Coverage coverage() const;
    std::uint64_t bytes_read() const { return data_ ? data_->bytes_read() : 0; }

private:
    struct Candidate {
        PackId id;
        std::uint64_t bytes = 0;
        CheckHistory::Known known;
    };

    bool is_within(const CheckHistory::Known& known, std::chrono::nanoseconds time) const;
    bool is_due(const CheckHistory::Known& known) const;
    void read(std::shared_ptr<const PackReader> pack);
    void read_sample();
    bool choose(const Candidate& candidate);
    std::shared_ptr<const PackReader> reopen(const Candidate& candidate);
    void leave(std::uint64_t bytes, const CheckHistory::Known& known);
    void done(const PackReader& pack, bool whole);

    const Repository& repository_;
    const VerifyOptions& options_;
    Findings& findings_;
    Progress& progress_;
    Meanwhile& meanwhile_;
    const std::int64_t now_ns_;
    CheckHistory history_;
    std::optional<ExternalSorter> sorter_;                                // of a sample's candidates, in the order in which they are chosen
    std::uint64_t due_bytes_ = 0;                                         // of the candidates
    std::uint64_t budget_ = 0, damaged_bytes_ = 0, undamaged_bytes_ = 0;  // of a sample, and what was chosen for it
    mutable std::mutex mutex_;
    Coverage coverage_;
    std::optional<DataCheck> data_;  // the last member: its workers use the others
};

}  // namespace nodesnap
