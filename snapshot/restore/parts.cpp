#include "snapshot/restore/parts.h"

#include <algorithm>

namespace nodesnap {

RestoreParts::RestoreParts(const Repository& repository, const Inode& wanted, std::uint64_t start)
    : start_(start), all_(std::make_unique<MapCursor>(repository.nodes(), wanted, start)) {}

RestoreParts::RestoreParts(const Repository& repository, const Inode& wanted, const Inode& held)
    : difference_(std::make_unique<Difference>(repository, wanted, held)) {}

bool RestoreParts::next(RunPart& part) {
    if (all_) {
        if (!all_->next(part.run)) {
            return false;
        }
        part.from = part.run.offset < start_ ? std::min(start_ - part.run.offset, part.run.length) : 0;
        part.length = part.run.length - part.from;
        return true;
    }
    MapChange change;
    while (difference_->maps.next(change)) {
        if (change.after != RangeKind::kHole) {
            part = {change.run_after, change.offset - change.run_after.offset, change.length};
            return true;
        }
    }
    return false;
}

std::uint64_t data_in(RestoreParts parts, const DataPart& told) {
    std::uint64_t bytes = 0;
    RunPart part;
    while (parts.next(part)) {
        if (part.run.flags == Run::kNone) {
            bytes += part.length;
            if (told) {
                told(part.begin(), part.length);
            }
        }
    }
    return bytes;
}

std::uint64_t data_of(const Repository& repository, const Inode& inode, const DataPart& part) {
    return inode.content.size() + data_in(RestoreParts(repository, inode, 0), part);
}

}  // namespace nodesnap
