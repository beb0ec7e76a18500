#include "io/transfer.h"

#include <cstdlib>
#include <memory>
#include <thread>

#include "io/buffer_pool.h"
#include "ring_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

class TransferTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Modes, TransferTest, testing::Bool(), ring_mode);

std::string pattern(std::size_t bytes) {
    std::string text(bytes, '\0');
    for (std::size_t i = 0; i < bytes; ++i) {
        text[i] = static_cast<char>('a' + (i * 31 + i / 4096) % 26);
    }
    return text;
}

// Writes in pieces that a pipe takes one at a time.
void feed(const Pipe& pipe, std::string_view text) {
    for (std::size_t at = 0; at < text.size(); at += 1000) {
        pipe.write(text.substr(at, 1000));
    }
}

TEST_P(TransferTest, PutsShortReadsTogether) {
    Ring ring(options());
    const std::string content = pattern(100'000);
    Pipe pipe;
    std::thread writer([&] {
        feed(pipe, content);
        pipe.writer.reset();
    });
    std::string into(content.size() + 100, '\0');
    EXPECT_EQ(ring.wait(read_full(ring, pipe.reader.get(), std::as_writable_bytes(std::span(into)), 0)), 100'000);
    writer.join();
    EXPECT_TRUE(std::string_view(into).substr(0, content.size()) == content);
}

TEST_P(TransferTest, PutsShortWritesTogether) {
    Ring ring(options());
    const std::string content = pattern(1'000'000);  // more than a pipe holds
    Pipe pipe(O_NONBLOCK);
    std::string got;
    std::thread reader([&] {
        std::array<char, 7000> into{};
        ::fcntl(pipe.reader.get(), F_SETFL, 0);
        while (got.size() < content.size()) {
            const ssize_t length = ::read(pipe.reader.get(), into.data(), into.size());
            if (length <= 0) {
                break;
            }
            got.append(into.data(), static_cast<std::size_t>(length));
        }
    });
    EXPECT_EQ(ring.wait(write_full(ring, pipe.writer.get(), bytes_of(content), 0)), 1'000'000);
    reader.join();
    EXPECT_TRUE(got == content);
}

TEST_P(TransferTest, EndsAtTheEndOfTheFileAlsoUnaligned) {
    Ring ring(options());
    const std::string content = pattern(4096 * 3 + 700);
    const FileDescriptor fd = make_file("file", content);
    std::string into(4096 * 8, '\0');
    for (const std::uint64_t offset : {0U, 1U, 4096U, 5000U, 12'987U, 12'988U, 50'000U}) {
        const std::int64_t expected =
            std::max<std::int64_t>(0, static_cast<std::int64_t>(content.size()) - static_cast<std::int64_t>(offset));
        EXPECT_EQ(ring.wait(read_full(ring, fd.get(), std::as_writable_bytes(std::span(into)), offset)), expected) << offset;
        EXPECT_TRUE(std::string_view(into).substr(0, static_cast<std::size_t>(expected)) ==
                    std::string_view(content).substr(std::min<std::size_t>(offset, content.size())));
    }
}

TEST_P(TransferTest, AKnownSizeSavesAskingForTheEnd) {
    Ring ring(options());
    const FileDescriptor fd = make_file("file", "12345");
    std::array<std::byte, 4096> into{};
    const FaultHooks hooks;
    EXPECT_EQ(ring.wait(read_full(ring, fd.get(), into, 0, 5)), 5);
    EXPECT_EQ(hooks.count("read"), 1U);
    EXPECT_EQ(ring.wait(read_full(ring, fd.get(), into, 0)), 5);
    EXPECT_EQ(hooks.count("read"), 3U);
    EXPECT_EQ(ring.wait(read_full(ring, fd.get(), into, 5, 5)), 0);
    EXPECT_EQ(hooks.count("read"), 3U);
}

TEST_P(TransferTest, ReadsDirectlyUpToAnUnalignedEnd) {
    Ring ring(options());
    const std::string content = pattern(4096 * 2 + 700);
    make_file("file", content);
    const FileDescriptor fd(::open(path("file").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!fd) {
        GTEST_SKIP() << "no O_DIRECT in " << path("");
    }
    BufferPool pool(ring, {.count = 1, .buffer_bytes = 16384});
    const Buffer buffer = pool.try_acquire();
    EXPECT_EQ(ring.wait(read_full(ring, fd.get(), buffer.span(), 0)), 4096 * 2 + 700);
    EXPECT_TRUE(text_of(buffer.span().first(content.size())) == content);
    EXPECT_EQ(ring.wait(read_full(ring, fd.get(), buffer.span(), 4096)), 4096 + 700);
}

TEST_P(TransferTest, GivesTheErrorOfTheOperationThatFailed) {
    Ring ring(options());
    const std::string content = pattern(10'000);
    const FileDescriptor fd = make_file("file", content);
    FaultHooks hooks;
    std::array<std::byte, 20'000> into{};
    hooks.fail_nth(2, EIO, false, "read");
    EXPECT_EQ(ring.wait(read_full(ring, fd.get(), into, 0)), -EIO);  // the one that would have found the end
    hooks.fail_nth(1, ENOSPC, false, "write");
    EXPECT_EQ(ring.wait(write_full(ring, fd.get(), into, 0)), -ENOSPC);
    const FileDescriptor full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    EXPECT_EQ(ring.wait(write_full(ring, full.get(), into, 0)), -ENOSPC);
    EXPECT_EQ(ring.wait(write_full(ring, fd.get(), {}, 0)), 0);
}

}  // namespace
}  // namespace nodesnap::test
