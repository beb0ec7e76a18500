// SpilledStack: a stack of plain records that may grow to any height: what lies deep in it is in a file without a name, in the scratch
// directory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "platform/file.h"
#include "platform/file_descriptor.h"
#include "snapshot/repository/external_sorter_file.h"

namespace nodesnap {

// One thread. Memory: 2 * kBlock records. Throws what opening, reading or writing the file throws.
template <typename Record>
class SpilledStack {
    static_assert(std::is_trivially_copyable_v<Record>);

public:
    static constexpr std::size_t kBlock = 2048;

    explicit SpilledStack(std::string scratch_directory) : directory_(std::move(scratch_directory)) {}

    bool empty() const { return top_.empty() && spilled_blocks_ == 0; }

    void push(const Record& record) {
        if (top_.size() == 2 * kBlock) {
            spill();
        }
        top_.push_back(record);
    }

    // Not of an empty one.
    Record pop() {
        if (top_.empty()) {
            fetch();
        }
        const Record record = top_.back();
        top_.pop_back();
        return record;
    }

private:
    void spill() {
        if (!file_) {
            file_ = open_unnamed(directory_);
        }
        pwrite_all(file_.get(), std::as_bytes(std::span(top_).first(kBlock)), spilled_blocks_ * kBlock * sizeof(Record), shown());
        ++spilled_blocks_;
        top_.erase(top_.begin(), top_.begin() + kBlock);
    }

    void fetch() {
        top_.resize(kBlock);
        pread_exact(file_.get(), std::as_writable_bytes(std::span(top_)), (spilled_blocks_ - 1) * kBlock * sizeof(Record), shown());
        --spilled_blocks_;
    }

    std::string shown() const { return "temporary file in " + directory_; }

    const std::string directory_;
    FileDescriptor file_;
    std::uint64_t spilled_blocks_ = 0;  // below top_
    std::vector<Record> top_;
};

}  // namespace nodesnap
