#include "snapshot/repository/backup_id.h"

#include <utility>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::size_t kIdDigits = 22;
constexpr std::size_t kCandidatesShown = 8;

}  // namespace

BackupId::BackupId(std::string prefix) : prefix_(std::move(prefix)) {
    if (prefix_.size() < kShortestPrefix || prefix_.size() > kIdDigits ||
        prefix_.find_first_not_of("0123456789abcdef") != std::string::npos) {
        throw Error::usage("\"" + prefix_ + "\" isn't a backup's id",
                           "give an id, at least 4 digits of one, or `latest`; `nodesnap list` shows them");
    }
}

bool BackupId::offer(const SessionId& id) {
    if (!id.hex().starts_with(prefix_)) {
        return false;
    }
    if (++count_ <= kCandidatesShown) {
        candidates_.push_back(id);
    }
    return true;
}

std::optional<SessionId> BackupId::result() const {
    if (count_ > 1) {
        std::string message = prefix_ + " is the beginning of several backups' ids:";
        for (const SessionId& id : candidates_) {
            message += " " + id.hex();
        }
        throw Error::usage(message + (count_ > candidates_.size() ? " ..." : ""), "give more digits");
    }
    return count_ == 1 ? std::optional(candidates_.front()) : std::nullopt;
}

}  // namespace nodesnap
