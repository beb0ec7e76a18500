#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/repository/external_sorter.h"
#include "tests/repository/sample.h"

namespace nodesnap::test {
namespace {

using Entries = std::vector<std::pair<std::string, std::string>>;

class Scratch {
public:
    Scratch() : path_(std::filesystem::temp_directory_path() / ("nodesnap-sorter-" + Uuid::random().text())) {
        std::filesystem::create_directory(path_);
    }
    ~Scratch() { std::filesystem::remove_all(path_); }
    std::string path() const { return path_.string(); }
    bool empty() const { return std::filesystem::is_empty(path_); }

private:
    std::filesystem::path path_;
};

Entries drain(ExternalSorter& sorter) {
    Entries entries;
    std::string_view key, value;
    while (sorter.next(key, value)) {
        entries.emplace_back(key, value);
    }
    EXPECT_FALSE(sorter.next(key, value));
    return entries;
}

Entries random_entries(Random& random, std::size_t count) {
    Entries entries;
    for (std::size_t i = 0; i < count; ++i) {
        std::string key = random.text(random.below(20));
        if (random.chance(2)) {
            key = std::string("same prefix ") + static_cast<char>(random.below(256));
        }
        entries.emplace_back(std::move(key), std::to_string(i) + random.text(random.below(100)));
    }
    return entries;
}

void sort_by_key(Entries& entries) {
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
}

TEST(ExternalSorter, SortsByUnsignedBytesAndKeepsTheOrderOfEqualKeys) {
    Scratch scratch;
    Random random;
    for (const auto& [count, memory] :
         {std::pair{0, 1 << 20}, {1, 1 << 20}, {5000, 64 << 20}, {5000, 64 << 10}, {100'000, 64 << 10}, {100'000, 1 << 20}}) {
        Entries entries = random_entries(random, static_cast<std::size_t>(count));
        ExternalSorter sorter(scratch.path(), static_cast<std::size_t>(memory));
        for (const auto& [key, value] : entries) {
            sorter.add(key, value);
        }
        EXPECT_EQ(sorter.size(), entries.size());
        sort_by_key(entries);
        EXPECT_TRUE(drain(sorter) == entries) << count << " entries in " << memory;
        EXPECT_EQ(sorter.spilled_bytes() != 0, count * 80 > memory);
        EXPECT_TRUE(scratch.empty()) << "temporary files have no names";
    }
}

TEST(ExternalSorter, TakesEntriesAlmostAsLargeAsItsMemory) {
    Scratch scratch;
    Random random;
    ExternalSorter sorter(scratch.path(), 1 << 20);
    Entries entries;
    for (int i = 0; i < 10; ++i) {
        entries.emplace_back(random.text(1000), random.text(1'000'000));
        sorter.add(entries.back().first, entries.back().second);
    }
    sort_by_key(entries);
    EXPECT_TRUE(drain(sorter) == entries);
    ExternalSorter small(scratch.path(), 1 << 20);
    EXPECT_THROW(small.add("key", std::string(1 << 20, 'x')), Error);
}

TEST(ExternalSorter, TakesEntriesFromSeveralThreads) {
    Scratch scratch;
    ExternalSorter sorter(scratch.path(), 256 << 10);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&sorter, t] {
            for (int i = 0; i < 20'000; ++i) {
                sorter.add(std::to_string(i * 4 + t), "v");
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    const Entries entries = drain(sorter);
    EXPECT_EQ(entries.size(), 80'000U);
    EXPECT_TRUE(std::is_sorted(entries.begin(), entries.end()));
}

TEST(ExternalSorter, NoAddsAfterTheFirstNext) {
    ExternalSorter sorter("/nonexistent", 1 << 20);
    sorter.add("a", "b");
    EXPECT_EQ(drain(sorter).size(), 1U) << "no scratch directory is needed while all fits";
    EXPECT_THROW(sorter.add("c", "d"), Error);
}

TEST(ExternalSorter, ScratchDirectoryThatIsMissingIsNamedWithTheRemedy) {
    ExternalSorter sorter("/nonexistent/scratch", 64 << 10);
    try {
        for (int i = 0; i < 10'000; ++i) {
            sorter.add(std::to_string(i), "value");
        }
        FAIL();
    } catch (const Error& error) {
        EXPECT_NE(error.message().find("/nonexistent/scratch"), std::string::npos);
        EXPECT_NE(error.hint().find("--scratch-dir"), std::string::npos);
        EXPECT_EQ(error.error_number(), ENOENT);
    }
}

class FailNth : public fault::Hooks {
public:
    FailNth(const char* operation, int nth, int error_number) : operation_(operation), left_(nth), error_(error_number) {
        fault::install(this);
    }
    ~FailNth() override { fault::install(nullptr); }
    int on_operation(const char* operation) noexcept override { return operation_ == operation && --left_ == 0 ? error_ : 0; }
    void on_step(const char*) noexcept override {}
    bool happened() const { return left_ <= 0; }

private:
    std::string operation_;
    int left_;
    int error_;
};

// True if the sorting failed, with the errno and the hint that it must have.
bool fails_at(const Scratch& scratch, const Entries& entries, const char* operation, int nth, int error_number, bool& injected) {
    FailNth hooks(operation, nth, error_number);
    bool failed = false;
    try {
        ExternalSorter sorter(scratch.path(), 64 << 10);
        for (const auto& [key, value] : entries) {
            sorter.add(key, value);
        }
        drain(sorter);
    } catch (const Error& error) {
        failed = true;
        EXPECT_EQ(error.error_number(), error_number);
        EXPECT_NE(error.hint().find("--scratch-dir"), std::string::npos);
    }
    injected = hooks.happened();
    return failed;
}

TEST(ExternalSorter, EveryFailureOfItsFilesIsAnErrorThatNamesThem) {
    Scratch scratch;
    Random random;
    const Entries entries = random_entries(random, 20'000);
    int points = 0;
    for (const auto& [operation, error] : {std::pair{"sorter.create", EACCES}, {"sorter.write", ENOSPC}, {"sorter.read", EIO}}) {
        bool injected = true;
        for (int nth = 1; injected; nth += 7) {
            EXPECT_EQ(fails_at(scratch, entries, operation, nth, error, injected), injected);
            points += injected ? 1 : 0;
        }
    }
    EXPECT_GT(points, 10);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NODESNAP_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NODESNAP_SANITIZED 1
#endif
#endif

TEST(ExternalSorter, EntriesBeyondItsMemoryDontGrowTheProcess) {
#ifdef NODESNAP_SANITIZED
    GTEST_SKIP() << "sanitizers keep freed memory";
#endif
    Scratch scratch;
    ExternalSorter sorter(scratch.path(), 8U << 20);
    std::mt19937_64 engine(1);
    const auto resident = [] {
        std::ifstream statm("/proc/self/statm");
        std::size_t total = 0, pages = 0;
        statm >> total >> pages;
        return pages * 4096;
    };
    const std::size_t before = resident();
    std::size_t peak = 0;
    for (int i = 0; i < 1'000'000; ++i) {
        const std::uint64_t number = engine();
        sorter.add({reinterpret_cast<const char*>(&number), 8}, "12345678901234567890123456789012");
        if (i % 10'000 == 0) {
            peak = std::max(peak, resident());
        }
    }
    std::string_view key, value;
    for (int i = 0; sorter.next(key, value); ++i) {
        if (i % 10'000 == 0) {
            peak = std::max(peak, resident());
        }
    }
    EXPECT_LE(peak, before + (12U << 20));
}

}  // namespace
}  // namespace nodesnap::test
