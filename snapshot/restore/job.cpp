#include "snapshot/restore/job.h"

#include <algorithm>

namespace nodesnap {

SliceJob::SliceJob(RestoreContext& context, std::vector<std::unique_ptr<RestoreFile>>& files)
    : context_(context), files_(files), states_(files.size()) {}

bool SliceJob::begin(std::uint32_t file) {
    const bool now = files_[file]->linked() || context_.basis != nullptr;
    states_[file].foreign = now && !files_[file]->make();
    return !states_[file].foreign;
}

void SliceJob::planned(const std::vector<PlannedRead>& reads) {
    for (const auto& read : reads) {
        for (const auto& piece : read.pieces) {
            ++states_[piece.file].pending;
        }
    }
    for (const auto file : last_planned_) {
        release(file);
    }
    last_planned_.clear();
}

RestoreJob::Sink SliceJob::sink(std::uint32_t file) {
    if (!files_[file]->made()) {
        files_[file]->make();
    }
    return {files_[file]->fd(), -1};
}

void SliceJob::written(const Piece& piece) {
    auto& state = states_[piece.file];
    state.written_end = std::max(state.written_end, piece.file_offset + piece.length);
    bytes_ += piece.length;
    state.wrote = true;
    release(piece.file);
}

void SliceJob::passed(const Piece& piece) {
    release(piece.file);
}

void SliceJob::release(std::uint32_t file) {
    if (--states_[file].pending == 0) {
        complete(file);
    }
}

void SliceJob::complete(std::uint32_t file) {
    auto& state = states_[file];
    if (!state.foreign) {
        sink(file);
        const auto& inode = files_[file]->inode();
        const auto unwritten = [](const Run& run) { return run.flags == Run::kUnwritten; };
        const bool held = files_[file]->held();
        if (!held && std::any_of(inode.runs.begin(), inode.runs.end(), unwritten)) {
            files_[file]->set_size();
        }
        for (const auto& run : inode.runs) {
            if (unwritten(run) && !held) {
                files_[file]->allocate(run);
            }
        }
        if (!inode.content.empty()) {
            const auto written = files_[file]->write_inline();
            state.written_end = inode.content.size();
            bytes_ += written;
            state.wrote = state.wrote || written != 0;
            context_.bytes += written;
            context_.bytes_kept += inode.content.size() - written;
            context_.progress.bytes_done += inode.content.size();
        }
        files_[file]->finish(state.written_end, state.wrote);
    }
    ++context_.progress.files_done;
}

}  // namespace nodesnap
