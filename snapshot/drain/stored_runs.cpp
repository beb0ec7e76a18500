#include "snapshot/drain/stored_runs.h"

#include <algorithm>
#include <utility>

#include "snapshot/repository/run_cut.h"

namespace nodesnap {
namespace {

std::uint64_t round_down(std::uint64_t value) {
    return value / kPackAlignment * kPackAlignment;
}

std::uint64_t round_up(std::uint64_t value) {
    return round_down(value + kPackAlignment - 1);
}

}  // namespace

StoredRuns::StoredRuns(NodeReader& nodes, PackCache& packs, Inode record) : nodes_(nodes), packs_(packs), record_(std::move(record)) {}

void StoredRuns::copy(std::uint64_t begin, std::uint64_t end, std::uint64_t from, std::uint64_t size, const Take& take,
                      const Leave& leave) {
    const std::uint64_t shift = from - begin;  // modulo 2^64
    while (begin < end) {
        std::uint64_t left = end;  // up to where nothing is taken
        if (seek(begin + shift) && run_.offset < end + shift) {
            const std::uint64_t run_begin = run_.offset - shift;
            const std::uint64_t last = std::min(end, run_.end() - shift);
            const std::uint64_t stop = last == size || goes_on(last + shift, end + shift) ? last : round_down(last);
            if (run_.offset > begin + shift) {
                left = std::min(end, round_up(run_begin));
            } else if (run_.flags == Run::kNone && stop > begin) {
                Run part = part_of(run_, begin - run_begin, stop - begin, packs_);
                part.offset = begin;
                take(part);
                begin = stop;
                continue;
            } else {
                left = std::min(end, std::max(round_up(last), begin + 1));
            }
        }
        leave(begin, left);
        begin = left;
    }
}

// Whether run_ ends at `offset`, and the next one has the rest of that page, or all up to `end`.
bool StoredRuns::goes_on(std::uint64_t offset, std::uint64_t end) const {
    return run_.end() == offset && ahead_ && ahead_->offset == offset && ahead_->flags == Run::kNone &&
           ahead_->end() >= std::min(end, round_up(offset));
}

// To the first run that ends behind `offset`. False if there is none.
bool StoredRuns::seek(std::uint64_t offset) {
    if (!map_ || ended_ || run_.offset > offset) {
        map_.emplace(nodes_, record_, offset);
        read_ahead();
        advance();
    }
    while (!ended_ && run_.end() <= offset) {
        advance();
    }
    return !ended_;
}

void StoredRuns::advance() {
    ended_ = !ahead_;
    if (!ended_) {
        run_ = *ahead_;
        read_ahead();
    }
}

void StoredRuns::read_ahead() {
    Run run;
    ahead_ = map_->next(run) ? std::optional(run) : std::nullopt;
}

}  // namespace nodesnap
