// BackupId: what an operator names a backup by: its id, or the beginning of one. Is offered all ids there are, and tells which it is.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/repository/ids.h"

namespace nodesnap {

class BackupId {
public:
    static constexpr std::size_t kShortestPrefix = 4;

    explicit BackupId(std::string prefix);  // Error::usage if no id can begin so
    bool offer(const SessionId& id);        // true if it is one that is meant
    // nullopt: none was offered; Error::usage: several were.
    std::optional<SessionId> result() const;

private:
    std::string prefix_;
    std::size_t count_ = 0;
    std::vector<SessionId> candidates_;  // the first ones
};

}  // namespace nodesnap
