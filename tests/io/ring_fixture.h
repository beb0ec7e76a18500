// What the tests of the ring share: each runs with io_uring and with plain system calls, which must not be told apart.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/ring.h"
#include "platform/file_descriptor.h"

namespace nodesnap::test {

class RingTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        directory_ = std::filesystem::temp_directory_path() / ("nodesnap-ring-" + std::to_string(::getpid()));
        std::filesystem::create_directories(directory_);
        if (!blocking() && !Ring(Ring::Options{}).uses_io_uring()) {
            GTEST_SKIP() << "no io_uring here: " << Ring(Ring::Options{}).fallback_reason();
        }
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    static bool blocking() { return GetParam(); }
    static Ring::Options options(unsigned entries = 64) { return {.entries = entries, .force_blocking = blocking()}; }
    std::string path(const std::string& name) const { return (directory_ / name).string(); }

    FileDescriptor make_file(const std::string& name, std::string_view content = "", int flags = O_RDWR) const {
        FileDescriptor fd(::open(path(name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
        EXPECT_EQ(::pwrite(fd.get(), content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
        fd.reset(::open(path(name).c_str(), flags | O_CLOEXEC));
        EXPECT_TRUE(fd) << name;
        return fd;
    }

private:
    std::filesystem::path directory_;
};

inline std::string ring_mode(const testing::TestParamInfo<bool>& info) {
    return info.param ? "blocking" : "io_uring";
}

struct Pipe {
    explicit Pipe(int flags = 0) {
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC | flags), 0);
        reader.reset(ends[0]);
        writer.reset(ends[1]);
    }
    void write(std::string_view text) const {
        EXPECT_EQ(::write(writer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    FileDescriptor reader;
    FileDescriptor writer;
};

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline std::size_t open_descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Keeps an operation's result where the test can see it.
inline Task<void> keep(Ring::Operation* operation, std::int64_t* result) {
    *result = co_await *operation;
}
inline std::int64_t result_of(Ring& ring, Ring::Operation&& operation) {
    std::int64_t result = -1;
    ring.wait(keep(&operation, &result));
    return result;
}

}  // namespace nodesnap::test
