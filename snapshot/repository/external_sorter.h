// ExternalSorter: sorts any number of (key, value) byte strings in bounded memory. Keys are compared as unsigned bytes; entries of equal
// keys keep the order in which they were added. Past `memory_bytes`, sorted runs spill into unlinked files in `scratch_directory`; runs are
// merged in several passes when there are many. add() is thread-safe; merging is for one thread, after all adds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace nodesnap {

class ExternalSorter {
public:
    ExternalSorter(std::string scratch_directory, std::size_t memory_bytes);
    ~ExternalSorter();
    void add(std::string_view key, std::string_view value);
    // No more adds after the first next(). The views are valid until the next call. False at the end.
    bool next(std::string_view& key, std::string_view& value);
    std::uint64_t size() const;
    std::uint64_t spilled_bytes() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nodesnap
