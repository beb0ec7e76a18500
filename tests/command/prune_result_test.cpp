// What prune says of fragments that it left: advice that helps where it was asked for.
#include "snapshot/command/prune_result.h"

#include <gtest/gtest.h>

namespace nodesnap::command {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

PruneResult left(std::uint64_t free_mib, std::uint64_t removed_mib) {
    PruneResult result;
    result.left_fragmented_bytes = 100 * kMiB;
    result.merge_needed_bytes = 164 * kMiB;
    result.merge_free_bytes = free_mib * kMiB;
    result.removed_bytes = removed_mib * kMiB;
    return result;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

TEST(PruneText, AdvisesToMergeOnlyWhereThereIsTheSpace) {
    for (const bool dry_run : {false, true}) {
        EXPECT_TRUE(contains(prune_text(left(200, 0), dry_run), "--merge takes all of it"));
        EXPECT_FALSE(contains(prune_text(left(163, 0), dry_run), "--merge"));
    }
}

TEST(PruneText, SaysWhatIsNeededAndWhatHelpsWhereMergingCannotHelp) {
    const std::string text = prune_text(left(10, 0), false);
    EXPECT_TRUE(contains(text, "takes 164.0 MiB, and 10.0 MiB are free")) << text;
    EXPECT_TRUE(contains(text, "forget backups")) << text;
}

TEST(PruneText, SendsToASecondRunWhereThisOneHasFreedTheSpace) {
    EXPECT_TRUE(contains(prune_text(left(10, 160), false), "prune --merge afterwards"));
    EXPECT_FALSE(contains(prune_text(left(10, 160), false), "forget backups"));
    EXPECT_FALSE(contains(prune_text(left(10, 100), false), "--merge"));
}

}  // namespace
}  // namespace nodesnap::command
