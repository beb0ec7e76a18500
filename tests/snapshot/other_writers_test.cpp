// Who is found to write beside what is held.
#include "snapshot/backup/other_writers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "platform/cgroup.h"
#include "platform/error.h"
#include "platform/file.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"
#include "tests/support/test_cgroup.h"

namespace nodesnap {
namespace {

using hold::Intent;
using hold::Mode;
using test::HolderProcess;
using test::TestCgroup;

class OtherWritersTest : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_CGROUPS();
        std::filesystem::create_directories(node());
        write_file_durably(file(), "x");
    }
    std::string node() const { return scratch_ / "node"; }
    std::string file() const { return scratch_ / "node/file"; }
    bool opens(int flags) const { return ::open(file().c_str(), flags | O_CLOEXEC) >= 0; }
    auto find(const std::string& cgroup, const std::vector<std::string>& excludes = {}) const {
        return find_other_writer(node(), ExcludeRules(excludes), cgroup);
    }
    // The refusal of what would be held so; "" if there is none.
    std::string refusal(const Intent& intent) const {
        try {
            refuse_other_writers(intent, ExcludeRules(std::vector<std::string>{}));
            return "";
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kRefused);
            EXPECT_FALSE(error.hint().empty());
            return error.message();
        }
    }
    Intent intent(Mode mode, const std::string& cgroup) const {
        Intent intent;
        intent.mode = mode;
        intent.what = "unit x.service";
        intent.cgroup = cgroup;
        intent.node_directory = node();
        return intent;
    }
    test::ScratchDirectory scratch_{"nodesnap-writers"};
};

TEST_F(OtherWritersTest, MembersOfTheCgroupAndOfThoseBelowAreHeld) {
    const TestCgroup cgroup;
    const TestCgroup below(cgroup.path() + "/below");
    const HolderProcess member([&] { return cgroup.enter() && opens(O_RDWR); });
    const HolderProcess deeper([&] { return below.enter() && opens(O_WRONLY); });
    EXPECT_FALSE(find(cgroup.path()));
    const auto outside = find(below.path());
    ASSERT_TRUE(outside && outside->seen);
    EXPECT_NE(outside->text.find("(pid " + std::to_string(member.pid()) + ") has " + file() + " open for writing"), std::string::npos)
        << outside->text;
    EXPECT_TRUE(find("")) << "where nothing is held nobody is left out";
}

TEST_F(OtherWritersTest, ACgroupWhoseNameOnlyBeginsLikeItIsAnother) {
    const TestCgroup cgroup;
    const TestCgroup longer(cgroup.path() + "0");
    const HolderProcess writer([&] { return longer.enter() && opens(O_RDWR); });
    EXPECT_TRUE(find(cgroup.path()));
}

TEST_F(OtherWritersTest, ReadersAndWhatIsExcludedDontCount) {
    const HolderProcess reader([&] { return opens(O_RDONLY); });
    EXPECT_FALSE(find(""));
    const HolderProcess writer([&] { return opens(O_RDWR); });
    EXPECT_TRUE(find(""));
    EXPECT_FALSE(find("", {"/file"}));
}

TEST_F(OtherWritersTest, RefusedIsWhatWouldGoOnWriting) {
    const TestCgroup cgroup;
    EXPECT_EQ(refusal(intent(Mode::kFreeze, cgroup.path())), "");
    const HolderProcess writer([&] { return opens(O_RDWR); });
    EXPECT_NE(refusal(intent(Mode::kFreeze, cgroup.path())).find("isn't part of unit x.service"), std::string::npos);
    EXPECT_NE(refusal(intent(Mode::kStop, cgroup.path())).find("isn't part of"), std::string::npos);
    Intent down = intent(Mode::kStop, "");
    EXPECT_EQ(refusal(down), "") << "whom the commands will stop shows afterwards";
    down.already = true;
    EXPECT_NE(refusal(down).find("doesn't run"), std::string::npos);
    Intent with_others = intent(Mode::kStop, cgroup.path());
    with_others.dependents = {"y.service"};
    EXPECT_EQ(refusal(with_others), "") << "it may be one of these";
    EXPECT_EQ(refusal(intent(Mode::kHook, "")), "");
}

}  // namespace
}  // namespace nodesnap
