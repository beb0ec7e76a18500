// CheckHistory: what the repository remembers of earlier checks of its data packs, and what this run adds to it. Needs no lease: records
// are compared and swapped, and one that is lost, damaged or can't be written costs that packs are read again sooner, nothing else.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "snapshot/repository/check_record.h"
#include "snapshot/repository/repository.h"
#include "snapshot/verify/findings.h"

namespace nodesnap {

class CheckHistory {
public:
    // `now_ns`: when the run begins. What it checks counts as checked then. `remember_bytes`: so many are checked between two writes, at
    // most.
    CheckHistory(const Repository& repository, std::int64_t now_ns, std::uint64_t remember_bytes, Findings& findings);

    enum class State : std::uint8_t {
        kNever,      // or nothing is known
        kRewritten,  // the last check was of another generation, whose bytes lay elsewhere
        kGood,
        kDamaged,
    };
    struct Known {
        State state = State::kNever;
        std::int64_t utc_seconds = 0;  // kGood, kDamaged: of the last check
    };
    // Cheap for packs in ascending order. For one thread. A time that is yet to come was a wrong clock's, and doesn't count.
    Known find(const PackId& pack, std::uint32_t generation);

    // Ends what find() tells of records that can't be used.
    void tell_flawed();

    // All that the pack holds was read: whole or not. Written from time to time. From any thread; throws nothing.
    void note(const PackReader& pack, bool whole) noexcept;
    // One that is there, but can't even be opened.
    void note_unreadable(const PackId& pack, std::uint32_t generation, std::uint64_t bytes) noexcept;
    // Writes what isn't written yet.
    void flush() noexcept;
    // Why not all can be remembered; empty while it can. From any thread.
    std::string obstacle() const;

private:
    struct Stored {
        CheckRecord record;
        std::optional<std::string> version;  // none: there is no such object
    };
    using Pending = std::map<PackId, PackCheckup>;

    static constexpr std::chrono::seconds kInterval{30};
    static constexpr std::size_t kPendingLimit = 16'384;
    static constexpr int kAttempts = 10;
    static constexpr unsigned kFlawedNamed = 4;

    Stored load(std::uint8_t first_byte) const;
    void note(const PackCheckup& checkup, std::uint64_t bytes) noexcept;
    bool due() const;
    void flush_pending() noexcept;
    void try_write(std::uint8_t first_byte, const std::vector<PackCheckup>& fresh);
    void write(std::uint8_t first_byte, const std::vector<PackCheckup>& fresh);
    std::vector<PackId> existing(std::uint8_t first_byte) const;

    const Repository& repository_;
    Target& target_;
    const std::int64_t now_seconds_;
    const std::uint64_t remember_bytes_;
    Findings& findings_;
    std::optional<std::uint8_t> found_byte_;  // whose record `found_` is
    CheckRecord found_;
    unsigned flawed_ = 0;  // records
    bool writable_ = true;
    mutable std::mutex mutex_;
    Pending pending_;
    std::uint64_t pending_bytes_ = 0;
    std::chrono::steady_clock::time_point written_;
    std::string obstacle_;
};

}  // namespace nodesnap
