// A directory of the source, and what is to be read in it. Shared between the walk that finds it and the workers that drain its entries.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"

namespace nodesnap {

// A directory's name and what is above it: a path is put together when a message needs it, so that a deep tree doesn't hold a long one per
// level.
class SourcePlace {
public:
    SourcePlace() = default;  // the node directory itself
    SourcePlace(std::shared_ptr<SourcePlace> parent, std::string name) : parent_(std::move(parent)), name_(std::move(name)) {}
    SourcePlace(const SourcePlace&) = delete;
    SourcePlace& operator=(const SourcePlace&) = delete;
    ~SourcePlace();

    // Relative to the node directory, "" for itself. Of one longer than kShownBytes the end, after ".../".
    std::string path() const;
    static constexpr std::size_t kShownBytes = 4096;

private:
    std::shared_ptr<SourcePlace> parent_;
    std::string name_;
};

// Open while entries of it are to be drained.
struct SourceDirectory {
    FileDescriptor fd;
    std::uint64_t ino = 0;
    std::shared_ptr<SourcePlace> place;

    std::string path() const { return place->path(); }
    std::string path_of(const std::string& name) const;  // of an entry; "" is the directory itself
};

struct SourceEntry {
    std::string name;  // "" stands for the directory itself, when all its entries were listed (or couldn't be)
    std::uint64_t ino = 0;
    std::uint8_t d_type = 0;
    bool incomplete = false;  // a directory that couldn't be listed to its end
};

struct Batch {
    std::shared_ptr<SourceDirectory> directory;
    std::vector<SourceEntry> entries;
};

}  // namespace nodesnap
