// RestoreState: how far a restore has come, kept beside what it restores, so that a run that was cut off is known for what it is and can be
// gone on with. Replaced atomically; written only after that which it claims is durable.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/restore.h"
#include "snapshot/restore/warnings.h"

namespace nodesnap {

struct RestoreState {
    enum class Phase { kWriting, kPlacing, kPlaced };

    // What is being restored; a state of something else isn't gone on with.
    std::string repository;
    std::string backup;
    std::uint32_t revision = 0;
    std::string options;  // a checksum of those that matter to the result
    // Where: what directory_identity() says of the staging directory, and of the one in it that is restored into (empty until that is
    // made). A state that was copied somewhere else, or lies beside something else than what it tells of, proves nothing.
    std::string staging;
    std::string content;
    // Of a delta restore: what it begins with (kClone ...), and which directory it takes the place of; empty otherwise.
    std::string basis;
    std::string old;
    static constexpr const char* kSnapshot = "snapshot";
    static constexpr const char* kClone = "clone";
    static constexpr const char* kInPlace = "in place";

    Phase phase = Phase::kWriting;
    std::uint32_t run = 0;      // how often it was begun or gone on with
    std::string links;          // name of the directory of hard links, in the root of what is restored
    std::uint64_t batches = 0;  // of the plan that are complete and durable
    std::uint64_t bytes = 0;    // of data in them
    bool sealed = false;        // files that are to become immutable or append-only were met
    bool linked = false;        // inodes with several names were met
    struct Large {
        std::uint64_t offset = 0;  // durable up to here; kWhole: finished
        std::uint64_t ino = 0;     // of the file at the destination
        bool operator==(const Large&) const = default;
    };
    std::map<std::uint64_t, Large> large;  // by entry number, in batches that aren't complete
    std::vector<RestoreWarnings::Group> warnings;
    std::vector<std::string> owners_used;  // OwnerMap::used()
    std::vector<LostRange> lost;           // RestoreLost::ranges()
    std::uint64_t lost_further = 0;

    static constexpr std::uint64_t kWhole = ~std::uint64_t{0};

    bool same_restore(const RestoreState& other) const {
        return repository == other.repository && backup == other.backup && revision == other.revision && options == other.options;
    }
};

// The state of a restore that hasn't begun.
RestoreState new_state(const Repository& repository, const Manifest& backup, const RestoreOptions& options);

// nullopt if there is no such file; Error::refused, with a remedy, if it isn't one of ours.
inline constexpr const char* kOldGate = "gate.";  // and a number: a gate file of the old directory
// What to do with a staging directory that isn't gone on with, as a part of a hint. Not without its gate files, which make of what lies
// beside it a database.
std::string how_to_discard(const std::string& staging);
std::optional<RestoreState> load_state(const std::string& path, const std::string& staging);
// Its text, to see whether it is still the same; nullopt if there is no such file.
std::optional<std::string> read_state(const std::string& path);
void store_state(const std::string& path, const RestoreState& state);  // atomically and durably

}  // namespace nodesnap
