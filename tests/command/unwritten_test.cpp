// Standard output that can't be written: what has been done counts, and so does damage that was found.
#include <unistd.h>

#include <csignal>

#include "tests/command/program_fixture.h"

namespace nodesnap {
namespace {

using test::Outcome;

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class Unwritten : public test::ProgramTest {
protected:
    // Where every write fails with ENOSPC.
    Outcome run_to_full(const std::vector<std::string>& arguments) {
        std::ofstream out("/dev/full");
        std::ostringstream err;
        command::Streams streams{out, err};
        Outcome outcome;
        outcome.status = command::run_program(arguments, streams, "");
        outcome.err = err.str();
        return outcome;
    }
    std::vector<std::string> backup_arguments() const {
        return {"backup", scratch_ / "node", repository(),      "--snapshot", "none", "--accept-inconsistent", "--workers",
                "1",      "--state-dir",     scratch_ / "state"};
    }
};

TEST_F(Unwritten, WhatIsDoneIsNoFailure) {
    const std::string restored = scratch_ / "restored";
    for (const std::vector<std::string>& arguments : {std::vector<std::string>{"init", repository(), "--node", "node1"},
                                                      backup_arguments(),
                                                      {"restore", repository(), "latest", restored}}) {
        for (const bool json : {false, true}) {
            auto all = arguments;
            if (json) {
                all.emplace_back("--json");
                std::filesystem::remove_all(arguments[0] == "init" ? repository() : arguments[0] == "restore" ? restored : "");
            }
            const Outcome outcome = run_to_full(all);
            EXPECT_EQ(outcome.status, 4) << outcome.err;
            EXPECT_TRUE(has(outcome.err, "but it could not be told")) << outcome.err;
            EXPECT_TRUE(has(outcome.err, "No space left")) << outcome.err;
        }
    }
    EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), 2U);
    EXPECT_TRUE(std::filesystem::exists(restored + "/data/CURRENT"));
}

TEST_F(Unwritten, WhatOnlyTellsFails) {
    init();
    backup();
    for (const std::vector<std::string>& arguments : {std::vector<std::string>{"list", repository()},
                                                      {"verify", repository()},
                                                      {"restore", repository(), "latest", scratch_ / "nothing", "--dry-run"},
                                                      {"--help"},
                                                      {"--version"},
                                                      {"help", "backup"},
                                                      {"backup", "--help"}}) {
        const Outcome outcome = run_to_full(arguments);
        EXPECT_EQ(outcome.status, 1) << arguments[0];
        EXPECT_TRUE(has(outcome.err, "cannot write to standard output: No space left")) << outcome.err;
    }
}

TEST_F(Unwritten, DamageCountsForMore) {
    init();
    backup();
    flip(objects("packs").at(0), 4096 + 100'000);
    EXPECT_EQ(run_to_full({"verify", repository(), "--data"}).status, 5);
}

TEST_F(Unwritten, ADumpWhoseReaderHasSeenEnoughSaysNothing) {
    init();
    backup();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ::close(ends[0]);
    const auto before = ::signal(SIGPIPE, SIG_IGN);  // as main() does
    std::ostringstream out, err;
    command::Streams streams{out, err, ends[1]};
    EXPECT_EQ(command::run_program({"dump", repository(), "latest", "conf"}, streams, ""), 1);
    EXPECT_EQ(err.str(), "");
    ::signal(SIGPIPE, before);
    ::close(ends[1]);
}

}  // namespace
}  // namespace nodesnap
