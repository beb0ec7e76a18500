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
    file_->set_size();
    file_->open_direct();
    handed_out_ = written_end_ = start;
    cursor_.emplace(context_.repository.nodes(), file_->inode(), start);
    have_run_ = cursor_->next(run_);
    run_taken_ = have_run_ && run_.offset < start ? std::min(start - run_.offset, run_.length) : 0;
    begun_ = true;
}

// Moves a part of the present run into the window. False if it is full.
bool RestoreLarge::cut(RestoreWindow& window, std::uint64_t& bytes) {
    if (run_taken_ < run_.length) {
        const bool data = run_.flags == Run::kNone;
        const auto room = kWindowBytes - bytes;
        if (window.parts.size() == kWindowParts || (data && room == 0)) {
            return false;
        }
        const auto length = data ? std::min(run_.length - run_taken_, room) : run_.length - run_taken_;
        if (window.parts.empty()) {
            window.begin = run_.offset + run_taken_;
        }
        window.parts.push_back({run_, run_taken_, length});
        run_taken_ += length;
        bytes += data ? length : 0;
        window.end = run_.offset + run_taken_;
    }
    if (run_taken_ == run_.length) {
        have_run_ = cursor_->next(run_);
        run_taken_ = 0;
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
    while (!exhausted_ && have_run_ && cut(window, bytes)) {
    }
    if (!exhausted_ && !have_run_) {
        exhausted_ = true;
        cursor_.reset();
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
        file_->finish(written_end_);
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
