#include "snapshot/repository/external_sorter_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

constexpr std::size_t kLengths = 8;  // of key and value

Error scratch_error(const char* operation, const std::string& directory, int error_number) {
    std::string hint = "name a writable directory for temporary data with --scratch-dir";
    if (is_space_error(error_number)) {
        hint = "free space there, or name a directory on a larger file system with --scratch-dir";
    }
    return Error::system(operation, "temporary file in " + directory, error_number, hint);
}

}  // namespace

FileDescriptor open_unnamed(const std::string& directory) {
    if (const int injected = fault::inject("sorter.create")) {
        throw scratch_error("create", directory, injected);
    }
    FileDescriptor file(::open(directory.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
    if (file || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
        if (!file) {
            throw scratch_error("create", directory, errno);
        }
        return file;
    }
    // File systems without O_TMPFILE.
    std::string name = directory + "/nodesnap-sort-XXXXXX";
    file.reset(::mkostemp(name.data(), O_CLOEXEC));
    if (!file) {
        throw scratch_error("create", directory, errno);
    }
    ::unlink(name.c_str());
    return file;
}

SpillFile::SpillFile(const std::string& directory) : directory_(directory), file_(open_unnamed(directory)) {
    buffer_.reserve(kSorterBufferBytes);
}

void SpillFile::append(std::string_view key, std::string_view value) {
    const std::uint32_t lengths[] = {static_cast<std::uint32_t>(key.size()), static_cast<std::uint32_t>(value.size())};
    std::array<char, kLengths> head;
    std::memcpy(head.data(), lengths, kLengths);
    write({head.data(), head.size()});
    write(key);
    write(value);
}

void SpillFile::write(std::string_view bytes) {
    size_ += bytes.size();
    while (!bytes.empty()) {
        const std::size_t piece = std::min(bytes.size(), kSorterBufferBytes - buffer_.size());
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(piece));
        bytes.remove_prefix(piece);
        if (buffer_.size() == kSorterBufferBytes) {
            flush();
        }
    }
}

void SpillFile::flush() {
    std::string_view rest(buffer_.data(), buffer_.size());
    while (!rest.empty()) {
        const int injected = fault::inject("sorter.write");
        const ssize_t written = injected == 0 ? ::pwrite(file_.get(), rest.data(), rest.size(), static_cast<off_t>(flushed_)) : -1;
        const int failure = injected != 0 ? injected : errno;
        if (written < 0) {
            if (failure == EINTR) {
                continue;
            }
            throw scratch_error("write to", directory_, failure);
        }
        flushed_ += static_cast<std::uint64_t>(written);
        rest.remove_prefix(static_cast<std::size_t>(written));
    }
    buffer_.clear();
}

SpilledRun SpillFile::end_run() {
    flush();
    // Advice only. Dirty pages aren't dropped: their write-back begins, and readers drop them.
    ::sync_file_range(file_.get(), static_cast<off64_t>(run_begin_), static_cast<off64_t>(size_ - run_begin_), SYNC_FILE_RANGE_WRITE);
    runs_.push_back({run_begin_, size_});
    run_begin_ = size_;
    return runs_.back();
}

void SpillFile::finish_writing() {
    std::vector<char>().swap(buffer_);
}

// ---- Reading

RunReader::RunReader(const SpillFile& file, const SpilledRun& run) : file_(&file), offset_(run.begin), end_(run.end) {}

bool RunReader::next() {
    if (position_ == filled_ && offset_ == end_) {
        return false;
    }
    std::uint32_t lengths[2];
    std::memcpy(lengths, take(kLengths), kLengths);
    const std::size_t length = std::size_t{lengths[0]} + lengths[1];
    const char* entry = take(length);
    key_ = {entry, lengths[0]};
    value_ = {entry + lengths[0], lengths[1]};
    return true;
}

const char* RunReader::take(std::size_t length) {
    if (filled_ - position_ < length) {
        fill(length);
    }
    position_ += length;
    return buffer_.data() + position_ - length;
}

void RunReader::fill(std::size_t wanted) {
    buffer_.resize(std::max({buffer_.size(), wanted, kSorterBufferBytes}));
    std::memmove(buffer_.data(), buffer_.data() + position_, filled_ - position_);
    filled_ -= position_;
    position_ = 0;
    while (filled_ < wanted) {
        const std::size_t piece = std::min<std::uint64_t>(buffer_.size() - filled_, end_ - offset_);
        const int injected = fault::inject("sorter.read");
        const ssize_t got = injected == 0 ? ::pread(file_->fd(), buffer_.data() + filled_, piece, static_cast<off_t>(offset_)) : -1;
        const int failure = injected != 0 ? injected : errno;
        if (got <= 0) {
            if (got < 0 && failure == EINTR) {
                continue;
            }
            throw scratch_error("read from", file_->directory(), got == 0 ? EIO : failure);
        }
        ::posix_fadvise(file_->fd(), static_cast<off_t>(offset_), got, POSIX_FADV_DONTNEED);
        filled_ += static_cast<std::size_t>(got);
        offset_ += static_cast<std::uint64_t>(got);
    }
}

// ---- Merging

RunMerge::RunMerge(const SpillFile& file, std::size_t first_run, std::size_t run_count) {
    readers_.reserve(run_count);
    for (std::size_t i = 0; i < run_count; ++i) {
        readers_.emplace_back(file, file.runs()[first_run + i]);
    }
}

bool RunMerge::after(std::size_t a, std::size_t b) const {
    const int order = readers_[a].key().compare(readers_[b].key());
    return order > 0 || (order == 0 && a > b);
}

bool RunMerge::next() {
    const auto later = [this](std::size_t a, std::size_t b) { return after(a, b); };
    if (!started_) {
        started_ = true;
        for (std::size_t i = 0; i < readers_.size(); ++i) {
            if (readers_[i].next()) {
                heap_.push_back(i);
            }
        }
        std::make_heap(heap_.begin(), heap_.end(), later);
        return !heap_.empty();
    }
    if (heap_.empty()) {
        return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), later);
    if (readers_[heap_.back()].next()) {
        std::push_heap(heap_.begin(), heap_.end(), later);
    } else {
        heap_.pop_back();
    }
    return !heap_.empty();
}

}  // namespace nodesnap
