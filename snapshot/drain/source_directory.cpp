#include "snapshot/drain/source_directory.h"

#include <utility>

namespace nodesnap {

// Level by level: a chain of very many would overflow the stack if each destroyed the one above it.
SourcePlace::~SourcePlace() {
    while (parent_ && parent_.use_count() == 1) {
        auto above = std::move(parent_->parent_);
        parent_ = std::move(above);
    }
}

std::string SourcePlace::path() const {
    std::size_t length = 0;
    const SourcePlace* top = this;  // the first that isn't shown
    for (; top->parent_ && length < kShownBytes; top = top->parent_.get()) {
        length += top->name_.size() + 1;
    }
    std::string path = top->parent_ ? ".../" : "";
    std::size_t end = path.size() + (length == 0 ? 0 : length - 1);
    path.resize(end, '/');
    for (const SourcePlace* place = this; place != top; place = place->parent_.get()) {
        const std::size_t begin = end - place->name_.size();
        path.replace(begin, place->name_.size(), place->name_);
        end = begin - 1;
    }
    return path;
}

std::string SourceDirectory::path_of(const std::string& name) const {
    std::string result = path();
    if (!name.empty()) {
        result += result.empty() ? name : '/' + name;
    }
    return result;
}

}  // namespace nodesnap
