// Where a directory lies below a root, for messages: its name, and what is above it.
//
// Cheap to copy, and shared by many threads: a path is put together when a message needs it, so that a deep tree doesn't hold a long one
// per level. A chain of any length ends without recursion. Not std::shared_ptr: who takes a chain apart level by level must know for
// certain that nobody else holds it, and use_count() doesn't tell that.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

namespace nodesnap {

class DirectoryPlace {
public:
    static constexpr std::size_t kShownBytes = 4096;

    DirectoryPlace() = default;  // the root itself
    DirectoryPlace(const DirectoryPlace& above, std::string name);
    DirectoryPlace(const DirectoryPlace& other) noexcept;
    DirectoryPlace(DirectoryPlace&& other) noexcept : link_(std::exchange(other.link_, nullptr)) {}
    DirectoryPlace& operator=(DirectoryPlace other) noexcept {
        std::swap(link_, other.link_);
        return *this;
    }
    ~DirectoryPlace();

    // Relative to the root, "" for itself. Of one longer than kShownBytes the end, after ".../".
    std::string path() const;
    std::string path_of(const std::string& entry) const;  // "" is the directory itself
    // However long it is.
    std::string whole_path_of(const std::string& entry) const;

private:
    struct Link;
    std::string path_up_to(std::size_t bytes) const;
    Link* link_ = nullptr;
};

}  // namespace nodesnap
