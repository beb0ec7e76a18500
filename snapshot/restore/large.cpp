#include "snapshot/restore/large.h"

#include <algorithm>
#include <utility>

#include "platform/file.h"

namespace nodesnap {

bool RestoreLarge::is_large(const Inode& inode) {
    if (inode.map) {
        return true;
    }
    std::uint64_t bytes = 0;
    for (const auto& run : inode.runs) {
        bytes += run.flags == Run::kNone ? run.length : 0;
    }
    return bytes > kThreshold;
}

RestoreLarge::RestoreLarge(RestoreContext& context, std::unique_ptr<RestoreFile> file, std::shared_ptr<RestoreBatch> batch,
                           std::size_t index)
    : context_(context), file_(std::move(file)), batch_(std::move(batch)), entry_number_(batch_->entry_number(index)) {}

void RestoreLarge::begin() {
    // Who of several names' batches fills an inode may differ from run to run, so its progress belongs to none of them.
    const auto start = file_->linked() ? 0 : context_.ledger.large_at_start(entry_number_);
    context_.lost.forget([this] { return file_->path(); }, start);
    if (start == RestoreState::kWhole || !file_->make(start != 0)) {
        begun_ = exhausted_ = finished_ = true;
        return;
    }
    ino_ = stat_fd(file_->fd(), file_->path()).stx_ino;
    if (!file_->held()) {
        file_->set_size();
    }
    file_->open_direct();
    handed_out_ = written_end_ = start;
    parts_ = file_->parts(start);
    have_part_ = parts_->next(part_);
    begun_ = true;
}

// Moves the present part, or the beginning of it, into the window. False if it is full.
bool RestoreLarge::cut(RestoreWindow& window, std::uint64_t& bytes) {
    if (part_.length != 0) {
        const bool data = part_.run.flags == Run::kNone;
        const auto room = context_.window_bytes - bytes;
        if (window.parts.size() == kWindowParts || (data && room == 0)) {
            return false;
        }
        const auto length = data ? std::min(part_.length, room) : part_.length;
        if (window.parts.empty()) {
            window.begin = part_.begin();
        }
        window.parts.push_back({part_.run, part_.from, length});
        part_.from += length;
        part_.length -= length;
        bytes += data ? length : 0;
        window.end = part_.begin();
    }
    if (part_.length == 0) {
        have_part_ = parts_->next(part_);
    }
    return true;
}

std::optional<RestoreWindow> RestoreLarge::next_window() {
    const std::lock_guard lock(mutex_);
    if (failed_) {
        return std::nullopt;
    }
    failed_ = true;  // until all went well
    if (!begun_) {
        begin();
    }
    RestoreWindow window;
    std::uint64_t bytes = 0;
    while (!exhausted_ && have_part_ && cut(window, bytes)) {
    }
    if (!exhausted_ && !have_part_) {
        exhausted_ = true;
        parts_.reset();
    }
    if (window.parts.empty()) {
        finish();
        failed_ = false;
        return std::nullopt;
    }
    failed_ = false;
    window.number = next_number_++;
    out_.emplace(window.number, handed_out_);
    handed_out_ = window.end;
    return window;
}

bool RestoreLarge::exhausted() const {
    const std::lock_guard lock(mutex_);
    return exhausted_;
}

void RestoreLarge::window_done(const RestoreWindow& window, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    out_.erase(window.number);
    bytes_ += bytes;
    for (const auto& part : window.parts) {
        if (part.run.flags == Run::kNone) {
            written_end_ = std::max(written_end_, part.run.offset + part.from + part.length);
        }
    }
    if (!file_->linked()) {
        context_.ledger.large_written(entry_number_, out_.empty() ? handed_out_ : out_.begin()->second, ino_);
    }
    if (!failed_) {
        finish();
    }
}

void RestoreLarge::finish() {
    if (!exhausted_ || !out_.empty() || batch_ == nullptr) {
        return;
    }
    if (!finished_) {
        file_->finish(written_end_, bytes_ != 0);
        finished_ = true;
        if (!file_->linked()) {
            context_.ledger.large_written(entry_number_, RestoreState::kWhole, ino_);
        }
        ++context_.progress.files_done;
    }
    batch_->part_done(bytes_);
    batch_.reset();
}

}  // namespace nodesnap
