// forget, pin and unpin as an operator calls them.
#include <algorithm>
#include <filesystem>

#include "io/target/directory.h"
#include "snapshot/repository/repository.h"
#include "tests/command/program_fixture.h"

namespace nodesnap {
namespace {

using test::Outcome;

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class ForgetCommand : public test::ProgramTest {
protected:
    void SetUp() override { ASSERT_EQ(init().status, 0); }

    void backups(int count) {
        for (int i = 0; i < count; ++i) {
            const Outcome made = backup({"--json", "--tag", "t" + std::to_string(ids_.size())});
            ASSERT_EQ(made.status, 0) << made.err;
            ids_.push_back(made.json()["backup"]["id"]);
        }
    }
    Outcome forget(std::vector<std::string> more) {
        more.insert(more.begin(), {"forget", repository()});
        return run(more);
    }
    std::vector<std::string> listed() {
        std::vector<std::string> ids;
        const auto document = run({"list", repository(), "--json"}).json();
        for (const auto& entry : document["backups"]) {
            ids.push_back(entry.value("id", "damaged"));
        }
        return ids;
    }

    std::vector<std::string> ids_;
};

TEST_F(ForgetCommand, DryRunExplainsAndRemovesNothing) {
    backups(3);
    const auto locks = objects("locks").size();
    const Outcome outcome = forget({"--keep-last", "1", "--keep-tag", "t0", "--dry-run"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(has(outcome.out, "keep    " + ids_[0].substr(0, 12))) << outcome.out;
    EXPECT_TRUE(has(outcome.out, "  tag t0\n")) << outcome.out;
    EXPECT_TRUE(has(outcome.out, "remove  " + ids_[1].substr(0, 12))) << outcome.out;
    EXPECT_TRUE(has(outcome.out, "last 1 of 1, the newest good one\n")) << outcome.out;
    EXPECT_TRUE(has(outcome.out, "would remove 1 of 3 backups\n")) << outcome.out;
    EXPECT_TRUE(has(outcome.out, "prune")) << outcome.out;
    EXPECT_EQ(listed(), ids_);
    EXPECT_EQ(objects("locks").size(), locks);
}

TEST_F(ForgetCommand, RemovesAndSaysSo) {
    backups(3);
    const Outcome outcome = forget({"--keep-last", "2"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(has(outcome.out, "removed 1 of 3 backups\n")) << outcome.out;
    EXPECT_EQ(listed(), (std::vector<std::string>{ids_[1], ids_[2]}));
    EXPECT_TRUE(has(forget({"--keep-last", "2"}).out, "nothing to remove: 2 backups stay\n"));
    EXPECT_EQ(forget({"--keep-last", "2", "--quiet"}).out, "");
    EXPECT_EQ(run({"verify", repository(), "--data"}).status, 0);
}

TEST_F(ForgetCommand, DocumentsHaveStableNames) {
    backups(3);
    const auto document = forget({"--keep-last", "2", "--keep-daily", "1", "--json"}).json();
    EXPECT_EQ(document["dry_run"], false);
    EXPECT_EQ(document["kept_count"], 2);
    EXPECT_EQ(document["removed_count"], 1);
    EXPECT_EQ(document["mass_expire"], false);
    EXPECT_EQ(document["cleared_sessions"], 0);
    ASSERT_EQ(document["backups"].size(), 3U);
    EXPECT_EQ(document["backups"][0]["id"], ids_[0]);
    EXPECT_EQ(document["backups"][0]["action"], "remove");
    EXPECT_EQ(document["backups"][0]["reasons"], nlohmann::json::array());
    const auto& newest = document["backups"][2];
    EXPECT_EQ(newest["action"], "keep");
    EXPECT_EQ(newest["state"], "good");
    EXPECT_EQ(newest["sequence"], 3);
    EXPECT_EQ(newest["pinned"], false);
    EXPECT_EQ(newest["reasons"],
              nlohmann::json::parse(R"([{"rule": "last", "text": "last 1 of 2"}, {"rule": "daily", "text": "daily 1 of 1"},
        {"rule": "newest", "text": "the newest good one"}])"));
}

TEST_F(ForgetCommand, NoRuleOrOnlyZerosIsWrongUsage) {
    backups(1);
    for (const std::vector<std::string>& options :
         {std::vector<std::string>{}, {"--keep-last", "0"}, {"--dry-run"}, {"--keep-daily", "0"}, {"--keep-within", "0"}}) {
        const Outcome outcome = forget(options);
        EXPECT_EQ(outcome.status, 2) << outcome.out;
        EXPECT_TRUE(has(outcome.err, "--keep-")) << outcome.err;
    }
    EXPECT_EQ(listed(), ids_);
}

TEST_F(ForgetCommand, WhatGoesWithPruneIsRefusedWithoutIt) {
    backups(2);
    for (const std::vector<std::string>& options : {std::vector<std::string>{"--merge"}, {"--max-unused", "20%"}}) {
        std::vector<std::string> arguments = {"--keep-last", "1"};
        arguments.insert(arguments.end(), options.begin(), options.end());
        EXPECT_EQ(forget(arguments).status, 2);
        arguments.emplace_back("--prune");
        EXPECT_EQ(forget(arguments).status, 0);
    }
    for (const char* wrong : {"101", "20.5%", "%", "-1", "20%%"}) {
        EXPECT_EQ(run({"prune", repository(), "--max-unused", wrong}).status, 2) << wrong;
    }
}

TEST_F(ForgetCommand, MoreThanHalfAsksForAWord) {
    backups(3);
    const Outcome refused = forget({"--keep-last", "1", "--json"});
    EXPECT_EQ(refused.status, 3);
    EXPECT_TRUE(has(refused.err, "--allow-mass-expire")) << refused.err;
    EXPECT_EQ(refused.json()["error"]["exit_status"], 3);
    EXPECT_EQ(listed(), ids_);
    const Outcome dry = forget({"--keep-last", "1", "--dry-run"});
    EXPECT_EQ(dry.status, 0);
    EXPECT_TRUE(has(dry.out, "it needs --allow-mass-expire\n")) << dry.out;
    EXPECT_EQ(forget({"--keep-last", "1", "--allow-mass-expire"}).status, 0);
    EXPECT_EQ(listed(), (std::vector<std::string>{ids_[2]}));
}

TEST_F(ForgetCommand, ByName) {
    backups(3);
    EXPECT_EQ(forget({"latest"}).status, 3);
    EXPECT_EQ(forget({ids_[2]}).status, 3);
    EXPECT_EQ(forget({"ffffffffffffffffffffff"}).status, 3);
    EXPECT_EQ(forget({ids_[0], "--keep-last", "1"}).status, 2);
    EXPECT_EQ(listed(), ids_);
    const Outcome outcome = forget({ids_[0].substr(0, 12)});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(has(outcome.out, "removed 1 of 3 backups\n")) << outcome.out;
    EXPECT_FALSE(has(outcome.out, ids_[1].substr(0, 12))) << outcome.out;
    const Outcome half = forget({ids_[0], ids_[1]});
    EXPECT_EQ(half.status, 4);
    EXPECT_TRUE(has(half.err, "there is no backup " + ids_[0])) << half.err;
    EXPECT_EQ(forget({"latest", "--allow-newest", "--allow-mass-expire"}).status, 0);
    EXPECT_TRUE(listed().empty());
}

TEST_F(ForgetCommand, RulesOfTheConfigurationFileAreForRunsWithoutNames) {
    backups(3);
    write("rules.conf", "[forget]\nkeep-last = 1\nkeep-tag = t1\n");
    const std::string file = scratch_ / "rules.conf";
    EXPECT_EQ(forget({ids_[1], "--config", file}).status, 0);
    EXPECT_EQ(listed(), (std::vector<std::string>{ids_[0], ids_[2]}));
    EXPECT_EQ(forget({"--config", file}).status, 0);
    EXPECT_EQ(listed(), (std::vector<std::string>{ids_[2]}));
}

TEST_F(ForgetCommand, ADamagedManifestIsKeptAndTold) {
    backups(3);
    const auto all = objects("backups");
    const std::string oldest = *std::min_element(all.begin(), all.end());
    flip(oldest, 200);
    flip(oldest, static_cast<std::int64_t>(std::filesystem::file_size(oldest) / 2 + 200));
    const Outcome outcome = forget({"--keep-last", "1"});
    EXPECT_EQ(outcome.status, 5) << outcome.err;
    EXPECT_TRUE(has(outcome.err, "can't be read")) << outcome.err;
    EXPECT_TRUE(std::filesystem::exists(oldest));
    EXPECT_EQ(listed(), (std::vector<std::string>{"damaged", ids_[2]}));
}

TEST_F(ForgetCommand, PinnedBackupsAreShownAndStay) {
    backups(3);
    EXPECT_EQ(run({"pin", repository(), ids_[0], "--reason", "for the auditors"}).out, "backup " + ids_[0] + " is pinned\n");
    EXPECT_EQ(run({"pin", repository(), ids_[0]}).out, "backup " + ids_[0] + " was pinned already\n");
    EXPECT_TRUE(has(run({"list", repository()}).out, "  pinned  t0\n")) << run({"list", repository()}).out;
    EXPECT_TRUE(has(run({"show", repository(), ids_[0]}).out, "pinned:         for the auditors\n"));
    const auto list = run({"list", repository(), "--json"}).json()["backups"];
    EXPECT_EQ(list[0]["pinned"], true);
    EXPECT_EQ(list[0]["pins"], nlohmann::json({"for the auditors"}));
    EXPECT_EQ(list[1]["pinned"], false);
    EXPECT_EQ(forget({"--keep-last", "1"}).status, 0);
    EXPECT_EQ(forget({ids_[0]}).status, 3);
    EXPECT_EQ(listed(), (std::vector<std::string>{ids_[0], ids_[2]}));
    const auto document = run({"unpin", repository(), ids_[0], "--json"}).json();
    EXPECT_EQ(document["changed"], true);
    EXPECT_EQ(document["backup"]["pinned"], false);
    EXPECT_EQ(run({"unpin", repository(), ids_[0]}).out, "backup " + ids_[0] + " wasn't pinned\n");
    EXPECT_EQ(forget({ids_[0]}).status, 0);
    EXPECT_EQ(run({"verify", repository(), "--data"}).status, 0);
}

TEST_F(ForgetCommand, ReasonsAreOneLineOfText) {
    backups(1);
    for (const std::string& reason : {std::string(), std::string("a\nb"), std::string("\x1b[31m"), std::string(2000, 'x')}) {
        EXPECT_EQ(run({"pin", repository(), ids_[0], "--reason", reason}).status, 2);
    }
    EXPECT_EQ(run({"pin", repository(), "ffffffff"}).status, 3);
    EXPECT_EQ(run({"pin", repository()}).status, 2);
    EXPECT_EQ(run({"unpin", repository(), ids_[0], "--reason", "x"}).status, 2);
}

TEST_F(ForgetCommand, AHeldLockTurnsAwayAllButTheDryRun) {
    backups(2);
    {
        const auto target = open_directory_target(repository(), false);
        const Lease lease = Lease::acquire(*target, Repository::open(target, {}).info().uuid, {"test"});
        EXPECT_EQ(forget({"--keep-last", "1"}).status, 6);
        EXPECT_EQ(run({"pin", repository(), ids_[0]}).status, 6);
        EXPECT_EQ(forget({"--keep-last", "1", "--dry-run"}).status, 0);
    }
    EXPECT_EQ(listed(), ids_);
    EXPECT_EQ(forget({"--keep-last", "1"}).status, 0);
}

}  // namespace
}  // namespace nodesnap
