// CheckRecord: the object "checks/<xx>", which remembers when the data of the packs whose ids begin with that byte was last read and
// checked. See docs/format.md, "Checks". It only says what needn't be read again so soon: who can't read it knows nothing of these packs.
// Pure functions on bytes and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

// Of one generation of one pack.
struct PackCheckup {
    PackId pack;
    std::uint32_t generation = 0;
    bool damaged = false;          // something that the pack holds wasn't what was stored
    std::int64_t utc_seconds = 0;  // when the run began that read it
    bool operator==(const PackCheckup&) const = default;
};

struct CheckRecord {
    std::vector<PackCheckup> checkups;  // in ascending order of packs, one for each
    std::string flaw;                   // not empty: why nothing is known
    bool replaceable = true;            // false: a newer version's, which this one must not write anew

    const PackCheckup* find(const PackId& pack) const;
};

inline constexpr std::size_t kCheckupsLimit = 131'072;  // of one record
inline constexpr std::uint64_t kCheckRecordLimit = 128 + 32 * std::uint64_t{kCheckupsLimit};

Bytes encode_check_record(const Uuid& repository, std::uint8_t first_byte, const std::vector<PackCheckup>& checkups);
CheckRecord parse_check_record(std::span<const std::byte> bytes, const Uuid& repository, std::uint8_t first_byte);

// Puts `fresh`, which must be in ascending order of packs, in the place of what `record` has of the same packs, unless that is of a run
// that began later (but not after `now`, when a clock was wrong), and leaves out others' packs that aren't among `existing` (ascending).
std::vector<PackCheckup> merge_checkups(const std::vector<PackCheckup>& record, const std::vector<PackCheckup>& fresh,
                                        const std::vector<PackId>& existing, std::int64_t now_utc_seconds);

}  // namespace nodesnap
