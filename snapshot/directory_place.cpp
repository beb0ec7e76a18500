#include "snapshot/directory_place.h"

#include <atomic>
#include <cstdint>
#include <limits>

namespace nodesnap {
namespace {

std::string joined(std::string path, const std::string& entry) {
    if (!entry.empty()) {
        path += path.empty() ? entry : '/' + entry;
    }
    return path;
}

}  // namespace

struct DirectoryPlace::Link {
    std::atomic<std::uint32_t> users{1};  // places, and the link below
    Link* above = nullptr;
    std::string name;
};

DirectoryPlace::DirectoryPlace(const DirectoryPlace& above, std::string name) : link_(new Link) {
    link_->name = std::move(name);
    link_->above = above.link_;
    if (link_->above != nullptr) {
        link_->above->users.fetch_add(1, std::memory_order_relaxed);
    }
}

DirectoryPlace::DirectoryPlace(const DirectoryPlace& other) noexcept : link_(other.link_) {
    if (link_ != nullptr) {
        link_->users.fetch_add(1, std::memory_order_relaxed);
    }
}

DirectoryPlace::~DirectoryPlace() {
    Link* link = link_;
    while (link != nullptr && link->users.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        Link* const above = link->above;
        delete link;
        link = above;
    }
}

std::string DirectoryPlace::path() const {
    return path_up_to(kShownBytes);
}

std::string DirectoryPlace::path_up_to(std::size_t bytes) const {
    std::size_t length = 0;
    const Link* top = link_;  // the first that isn't shown
    for (; top != nullptr && length < bytes; top = top->above) {
        length += top->name.size() + 1;
    }
    std::string path = top != nullptr ? ".../" : "";
    std::size_t end = path.size() + (length == 0 ? 0 : length - 1);
    path.resize(end, '/');
    for (const Link* link = link_; link != top; link = link->above) {
        const std::size_t begin = end - link->name.size();
        path.replace(begin, link->name.size(), link->name);
        end = begin - 1;
    }
    return path;
}

std::string DirectoryPlace::path_of(const std::string& entry) const {
    return joined(path(), entry);
}

std::string DirectoryPlace::whole_path_of(const std::string& entry) const {
    return joined(path_up_to(std::numeric_limits<std::size_t>::max()), entry);
}

}  // namespace nodesnap
