#include "snapshot/drain/spilled_stack.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "platform/error.h"
#include "tests/repository/sample.h"

namespace nodesnap::test {
namespace {

struct Record {
    std::uint64_t number = 0;
    std::uint32_t square = 0;
};

Record record_of(std::uint64_t number) {
    return {number, static_cast<std::uint32_t>(number * number)};
}

const std::string kScratch = std::filesystem::temp_directory_path();

TEST(SpilledStack, GivesBackWhatWasPutOnItLast) {
    Random random;
    SpilledStack<Record> stack(kScratch);
    std::vector<std::uint64_t> wanted;
    std::size_t highest = 0;
    for (std::uint64_t number = 0; number < 400'000 || !wanted.empty(); ++number) {
        // Up and down in long stretches, so that blocks are written anew where others lay.
        const bool grows = number < 300'000 && (number / 30'000 % 2 == 0 ? !random.chance(5) : random.chance(3));
        if (grows) {
            stack.push(record_of(number));
            wanted.push_back(number);
        } else if (!wanted.empty()) {
            const Record record = stack.pop();
            ASSERT_EQ(record.number, wanted.back());
            ASSERT_EQ(record.square, record_of(wanted.back()).square);
            wanted.pop_back();
        }
        ASSERT_EQ(stack.empty(), wanted.empty());
        highest = std::max(highest, wanted.size());
    }
    EXPECT_GT(highest, 8 * SpilledStack<Record>::kBlock);
}

TEST(SpilledStack, NeedsNoFileWhileItIsLow) {
    SpilledStack<Record> stack("/nowhere");
    for (std::size_t number = 0; number < 2 * SpilledStack<Record>::kBlock; ++number) {
        stack.push(record_of(number));
    }
    EXPECT_THROW(stack.push(record_of(0)), Error);
    EXPECT_EQ(stack.pop().number, 2 * SpilledStack<Record>::kBlock - 1);
}

}  // namespace
}  // namespace nodesnap::test
