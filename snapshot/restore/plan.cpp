#include "snapshot/restore/plan.h"

#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {

void RestorePlan::run() {
    for (const auto& part : selection_.parts) {
        if (!run_part(part)) {
            return;
        }
    }
    flush();
}

bool RestorePlan::run_part(const RestoreSelection::Part& part) {
    RestoreTrail trail(open_at(root_, ".", O_RDONLY | O_DIRECTORY));
    for (std::size_t i = 0; i + 1 < part.components.size(); ++i) {
        if (!enter(trail, part.components[i])) {
            return true;
        }
    }
    const auto name = part.components.empty() ? std::string() : part.components.back();
    if (part.type != FileType::kDirectory) {
        return gather(trail.top(), {name, part.ino, part.type});
    }
    TreeWalker walker(context_.repository, context_.backup, part.ino);
    TreeStep step;
    bool left_out = false;  // the directory just entered: what is in it is skipped
    while (walker.next(step)) {
        const auto& called = step.depth == 0 ? name : step.entry.name;
        switch (step.kind) {
            case TreeStep::Kind::kEnter:
                left_out = !called.empty() && !enter(trail, called);
                if (left_out) {
                    walker.skip();
                }
                break;
            case TreeStep::Kind::kEntry:
                if (!gather(trail.top(), std::move(step.entry))) {
                    return false;
                }
                break;
            case TreeStep::Kind::kLeave:
                if (!called.empty() && !left_out) {
                    trail.leave();
                }
                left_out = false;
                break;
        }
    }
    return true;
}

bool RestorePlan::enter(RestoreTrail& trail, const std::string& name) {
    const bool make = directories_ == Directories::kMake;
    if (const int error = trail.enter(name, make); error != 0) {
        if (make) {
            context_.warnings.add(kDirectoryRefused, error, trail.top()->place.path_of(name));
        } else if (!context_.warnings.has(kDirectoryRefused)) {
            throw Error::system("open", trail.top()->place.path_of(name), error);
        }
        return false;
    }
    if (make && context_.going_on) {
        const auto& directory = trail.top();
        context_.attributes.before_entries(directory->fd.get(), [&directory] { return directory->place.path(); });
    }
    return true;
}

bool RestorePlan::is_gate(const std::shared_ptr<OpenDirectory>& directory, const std::string& name) const {
    const auto& gates = context_.gate_files;
    return context_.gates_directory && directories_ == Directories::kMake && directory->place.path().empty() &&
           std::find(gates.begin(), gates.end(), name) != gates.end();
}

bool RestorePlan::gather(const std::shared_ptr<OpenDirectory>& named, NamedEntry entry) {
    const auto& directory = is_gate(named, entry.name) ? context_.gates_directory : named;
    const bool other_directory = gathered_.empty() || gathered_.back().directory != directory;
    if (gathered_bytes_ >= kGatherBytes || (other_directory && gathered_directories_ == kGatherDirectories)) {
        if (!flush()) {
            return false;
        }
    }
    gathered_directories_ += gathered_.empty() || gathered_.back().directory != directory ? 1 : 0;
    gathered_bytes_ += sizeof(RestoreEntry) + entry.name.size();
    gathered_.push_back({directory, std::move(entry.name), entry.ino, entry.type});
    return true;
}

bool RestorePlan::flush() {
    std::stable_sort(gathered_.begin(), gathered_.end(), [](const RestoreEntry& a, const RestoreEntry& b) { return a.ino < b.ino; });
    for (std::size_t begin = 0; begin < gathered_.size(); begin += RestoreBatch::kEntries) {
        if (!sink_(next_batch_++, std::span(gathered_).subspan(begin, std::min(RestoreBatch::kEntries, gathered_.size() - begin)))) {
            return false;
        }
    }
    gathered_.clear();
    gathered_bytes_ = 0;
    gathered_directories_ = 0;
    return true;
}

}  // namespace nodesnap
