// Batches of the restore's plan, and the ledger of which are complete. The plan's order depends on nothing but the backup and the paths
// chosen, so that "the first N batches are complete and durable" is all that has to be remembered over an interruption.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "snapshot/restore/state.h"
#include "snapshot/restore/trail.h"
#include "snapshot/tree_path.h"

namespace nodesnap {

struct RestoreEntry {
    std::shared_ptr<OpenDirectory> directory;
    std::string name;
    std::uint64_t ino = 0;
    FileType type = FileType::kRegular;
    std::string path() const { return directory->place.path_of(name); }
};

// Which batches are complete. Thread-safe. Memory: by the batches in work.
class RestoreLedger {
public:
    // Goes on where `state` says; `state.large` tells what is there of large files in batches that aren't complete.
    explicit RestoreLedger(const RestoreState& state);

    // Before anything was done: goes on where `state` says instead.
    void restart(const RestoreState& state);

    std::uint64_t first_batch() const { return first_; }  // those before were complete at the start
    // How far an earlier run had come with a large file; RestoreState::kWhole: it was finished.
    std::uint64_t large_at_start(std::uint64_t entry_number) const;

    void batch_complete(std::uint64_t number, std::uint64_t bytes);
    // All of a large file, whose inode is `ino` at the destination, before `offset` has been written.
    void large_written(std::uint64_t entry_number, std::uint64_t offset, std::uint64_t ino);
    // What would be true if all that was written up to now were durable.
    void fill(RestoreState& state) const;

private:
    mutable std::mutex mutex_;
    std::uint64_t first_;
    std::map<std::uint64_t, RestoreState::Large> at_start_;
    std::uint64_t prefix_;  // batches before it are complete
    std::uint64_t prefix_bytes_;
    std::map<std::uint64_t, std::uint64_t> complete_;  // beyond the prefix, with their bytes
    std::map<std::uint64_t, RestoreState::Large> large_;
};

// Entries that are worked on by several workers in parts: slices of small files, and large files.
class RestoreBatch {
public:
    static constexpr std::size_t kEntries = 256;

    RestoreBatch(std::uint64_t number, RestoreLedger& ledger) : number_(number), ledger_(ledger) {}

    std::vector<RestoreEntry> entries;

    std::uint64_t number() const { return number_; }
    // Identifies an entry over interruptions.
    std::uint64_t entry_number(std::size_t index) const { return number_ * kEntries + index; }
    static std::uint64_t batch_of(std::uint64_t entry_number) { return entry_number / kEntries; }
    RestoreLedger& ledger() const { return ledger_; }

    // A batch is complete when its parts are. It begins with one: the sorting of its entries.
    void add_part() { ++parts_; }
    void part_done(std::uint64_t bytes);

private:
    std::uint64_t number_;
    RestoreLedger& ledger_;
    std::atomic<std::uint64_t> parts_{1};
    std::atomic<std::uint64_t> bytes_{0};
};

}  // namespace nodesnap
