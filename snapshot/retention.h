// Retention: which backups a policy keeps, and why. Pure: it looks at facts, reads and removes nothing.
//
// Backups are ordered by sequence number, then UTC, never by the clock alone. Periods are cut in UTC: the answer is the same on every host
// and on the days when the local time jumps. A week begins on Monday. Of each period the newest backup is kept, for as many periods as
// the rule says; a period without backups doesn't count, and one that a clock which ran backwards enters again counts once. What several
// rules keep is counted by each of them.
//
// Where backups have receipts (see receipt.h), what came by way of a key that may only append goes by when it came, since its own dates may
// be forged: whoever stole the key may have added some. So that these push nothing out, the first backup of a period is kept too, and
// nothing goes that has come only lately.
//
// An incomplete backup takes no place from a good one: good ones are judged among themselves, an incomplete one as if it were good among
// all. What can't be read takes part in no rule, and is kept.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/repository/ids.h"

namespace nodesnap {

struct RetentionRules {
    // How many: 0 is no such rule.
    unsigned last = 0, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0;
    // All that are not older than this, counted back from the newest backup, or from now if its clock was ahead.
    std::optional<std::chrono::nanoseconds> within;
    // All that have every tag of one of these lists.
    std::vector<std::vector<std::string>> tags;
    // All that were received no longer ago than this; no rule of its own.
    std::chrono::nanoseconds received_within{std::chrono::days(7)};
    bool empty() const;
};

enum class KeepRule : std::uint8_t {
    kLast,
    kHourly,
    kDaily,
    kWeekly,
    kMonthly,
    kYearly,
    kWithin,
    kTag,
    kPinned,
    kNewest,        // the newest good one, which no policy removes; where none is good, the newest that can be read
    kUnreadable,    // its manifest, or the latest revision of that, can't be read
    kUnfinished,    // its session isn't ended
    kBuiltOn,       // a backup that was cut off builds on it
    kNewerVersion,  // it has features that this version mustn't remove
    kCluster,       // a part of a cluster backup that isn't forgotten
    kNotNamed,      // others were named
    kReceived,      // it was received only lately
    kReceipt,       // its receipt can't be read
};
std::string to_string(KeepRule rule);  // stable, for programs: "daily"

struct KeepReason {
    KeepRule rule{};
    unsigned place = 0;  // of a counted rule: which of its N this is, from 1; kTag: which of the lists, from 0
    bool operator==(const KeepReason&) const = default;
};
std::string describe(const KeepReason& reason, const RetentionRules& rules);  // for people: "daily 3 of 7"

struct RetentionBackup {
    SessionId id;
    std::uint64_t sequence = 0;
    std::int64_t utc_ns = 0;  // when the snapshot was taken; of one with a receipt, when it was received
    std::vector<std::string> tags;
    bool readable = true;
    bool good = true;  // not incomplete
    bool pinned = false;
    std::optional<KeepRule> held;  // why it must not be removed, whatever the rules say
    bool received = false;         // it has a receipt
};

// The one that is never removed without being named; nullopt if none can be read.
std::optional<std::size_t> newest_of(const std::vector<RetentionBackup>& backups);

// For each backup, in the order given, why it is kept; without a reason it expires. Among those that are alike in sequence and UTC the
// later one counts as newer. Memory: a few dozen bytes for each backup.
std::vector<std::vector<KeepReason>> apply_retention(const RetentionRules& rules, const std::vector<RetentionBackup>& backups,
                                                     std::int64_t now_ns);

// Whether so many removals at once look like a mistake: more than half of what can be read.
bool is_mass_expiry(std::size_t removed, std::size_t readable) noexcept;

}  // namespace nodesnap
