// Presence: tells other processes of this host that this one is there, by a number that they share. It goes with the process, whatever ends
// that. Kept by a lock on a directory (OFD, of the byte that the number names), of which nothing is written.
//
// One thread. Errors: none are thrown; where the file system has no such locks there is no Presence. Privileges: to read the directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "platform/file_descriptor.h"

namespace nodesnap {

class Presence {
public:
    static std::optional<Presence> declare(const std::string& directory, std::uint64_t number) noexcept;
    bool others() const noexcept;  // are there under the same number, too; true if that can't be told

private:
    Presence(FileDescriptor directory, std::int64_t byte) : directory_(std::move(directory)), byte_(byte) {}
    FileDescriptor directory_;
    std::int64_t byte_;
};

}  // namespace nodesnap
