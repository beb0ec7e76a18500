// What wrong usage is answered with, and the help.
#include "snapshot/command/command.h"
#include "tests/command/program_fixture.h"

namespace nodesnap {
namespace {

using test::Outcome;

class Usage : public test::ProgramTest {};

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

TEST_F(Usage, WithoutArgumentsTheCommandsAreListed) {
    for (const std::vector<std::string>& arguments : {std::vector<std::string>{}, {"--help"}, {"-h"}, {"help"}}) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.status, 0);
        for (const command::Command* command : command::all_commands()) {
            EXPECT_TRUE(has(outcome.out, std::string("\n  ") + command->name)) << command->name;
        }
    }
}

TEST_F(Usage, EveryCommandHasHelpThatIsComplete) {
    for (const command::Command* command : command::all_commands()) {
        const std::string name = command->name;
        const Outcome outcome = run({"help", name});
        EXPECT_EQ(outcome.status, 0);
        EXPECT_EQ(run({name, "--help"}).out, outcome.out);
        EXPECT_EQ(run({name, "-h", "some", "thing"}).out, outcome.out);
        for (const char* part : {"Usage:", "Options:", "Examples:", "Exit status:"}) {
            EXPECT_TRUE(has(outcome.out, part)) << name << ": " << part;
        }
        EXPECT_TRUE(has(outcome.out, "nodesnap " + name));
    }
}

TEST_F(Usage, UnknownCommandsAreSuggestedANeighbour) {
    Outcome outcome = run({"bakcup"});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_TRUE(has(outcome.err, "did you mean backup?")) << outcome.err;
    outcome = run({"xyzzy"});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_FALSE(has(outcome.err, "did you mean")) << outcome.err;
    EXPECT_EQ(run({"help", "lsit"}).status, 2);
    EXPECT_TRUE(has(run({"--verson"}).err, "--version"));
}

TEST_F(Usage, UnknownOptionsAreSuggestedANeighbour) {
    const Outcome outcome = run({"backup", "a", "b", "--skip-unreadble"});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_TRUE(has(outcome.err, "--skip-unreadable")) << outcome.err;
}

TEST_F(Usage, WhatBeginsWithADashIsAnOperandBehindTwo) {
    for (const char* command : {"find", "show", "dump", "restore", "forget", "diff"}) {
        const Outcome outcome = run({command, "a", "-rf"});
        EXPECT_EQ(outcome.status, 2);
        EXPECT_TRUE(has(outcome.err, "goes behind --")) << command << ": " << outcome.err;
    }
    const std::string place = scratch_ / "repository";
    EXPECT_EQ(run({"init", place, "--node", "n1"}).status, 0);
    EXPECT_EQ(run({"find", place, "--", "-rf"}).status, 0);
}

TEST_F(Usage, AbbreviatedOptionsAreNotGuessed) {
    EXPECT_EQ(run({"backup", "a", "b", "--lim", "1M"}).status, 2);
    EXPECT_EQ(run({"verify", "a", "--dat"}).status, 2);
}

// Whether or not the call will need it.
TEST_F(Usage, WrongValuesAreToldAlsoWhereTheyAreNotNeeded) {
    init();
    backup();
    const std::string latest = "latest";
    for (const std::string& directory : {scratch_ / "none", scratch_ / "node/conf"}) {
        const std::string option = "--scratch-dir=" + directory;
        EXPECT_EQ(run({"verify", repository(), option}).status, 2);
        EXPECT_EQ(run({"diff", repository(), latest, latest, option}).status, 2);
        EXPECT_EQ(run({"show", repository(), latest, "--changes", option}).status, 2);
        EXPECT_EQ(run({"prune", repository(), option}).status, 2);
        EXPECT_EQ(run({"forget", repository(), "--keep-last=1", option}).status, 2);
        const Outcome outcome = run({"backup", scratch_ / "node", repository(), option});
        EXPECT_EQ(outcome.status, 2);
        EXPECT_TRUE(has(outcome.err, "--scratch-dir: ")) << outcome.err;
    }
    for (const std::string name : {"data/CURRENT", "/CURRENT", "..", "CURRENT/"}) {
        EXPECT_EQ(run({"restore", repository(), latest, scratch_ / "restored", "--dry-run", "--gate-file", name}).status, 2) << name;
    }
    EXPECT_EQ(run({"verify", repository(), "--limit", "fast"}).status, 2);
    EXPECT_EQ(run({"verify", repository(), "--limit", "1M"}).status, 2) << "without --data nothing is limited";
    system_configuration_ = scratch_ / "system.conf";
    write("system.conf", "[verify]\nlimit = 1M\nsample = 4%\nsince = 30d\n");
    EXPECT_EQ(run({"verify", repository()}).status, 0);
    for (const std::string line : {"limit = fast", "sample = much", "since = long"}) {
        write("system.conf", "[verify]\n" + line + "\n");
        EXPECT_EQ(run({"verify", repository()}).status, 2) << line;
    }
}

TEST_F(Usage, WhatIsHeldIsSaidOnceAndCompletely) {
    const std::vector<std::pair<std::vector<std::string>, std::string>> wrong = {
        {{"--hold", "still"}, "freeze"},
        {{"--unit", "qdbd"}, "--hold freeze or --hold stop"},
        {{"--hold", "none", "--max-downtime", "1s"}, "--hold freeze or --hold stop or --hold hook"},
        {{"--hold", "freeze"}, "--pid PID"},
        {{"--hold", "freeze", "--unit", "qdbd", "--pid", "1"}, "--pid PID"},
        {{"--hold", "freeze", "--pid", "0"}, "--pid"},
        {{"--hold", "freeze", "--pid", "qdbd"}, "--pid"},
        {{"--hold", "freeze", "--unit", "qdbd", "--stop-timeout", "1m"}, "--hold stop"},
        {{"--hold", "freeze", "--unit", "qdbd", "--max-downtime", "0"}, "--max-downtime"},
        {{"--hold", "freeze", "--unit", "qdbd", "--max-downtime", "soon"}, "--max-downtime"},
        {{"--hold", "stop"}, "--start-command"},
        {{"--hold", "stop", "--pid", "1"}, "--hold freeze"},
        {{"--hold", "stop", "--stop-command", "a"}, "--start-command"},
        {{"--hold", "stop", "--status-command", "a"}, "--stop-command"},
        {{"--hold", "stop", "--unit", "qdbd", "--stop-command", "a", "--start-command", "b"}, "--unit"},
        {{"--hold", "hook"}, "--before-command"},
        {{"--hold", "hook", "--stop-command", "a"}, "--hold stop"},
    };
    for (const auto& [options, hint] : wrong) {
        std::vector<std::string> arguments = {"backup", "a", "b"};
        arguments.insert(arguments.end(), options.begin(), options.end());
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.status, 2) << options.back();
        EXPECT_TRUE(has(outcome.err, hint)) << options.back() << ": " << outcome.err;
    }
}

// One in the configuration file is meant for the calls that hold in that way; what the call says takes its place.
TEST_F(Usage, WhatIsHeldMayStandInTheConfigurationFile) {
    init();
    system_configuration_ = scratch_ / "system.conf";
    write("system.conf", "[backup]\nhold = freeze\npid = 1\nmax-downtime = 1s\n");
    EXPECT_EQ(backup({"--hold", "none"}).status, 0);
    const Outcome refused = backup();
    EXPECT_EQ(refused.status, 3) << "the cgroup of process 1 is never frozen";
    // Where the tests lie on a file system that can't be read in passes, that is said first.
    EXPECT_TRUE(has(refused.err, "cgroup") || has(refused.err, "leave --hold out")) << refused.err;
    write("system.conf", "[backup]\nhold = freeze\nunit = qdbd\nmax-downtime = 1s\n");
    EXPECT_EQ(backup({"--pid", "1"}).status, 3) << "not both";
    EXPECT_EQ(backup({"--unit", "a", "--pid", "1"}).status, 2);
    EXPECT_EQ(backup({"--hold", "hook"}).status, 2) << "it lacks its commands";
}

TEST_F(Usage, TheGuardIsNoCommand) {
    EXPECT_EQ(run({"guard"}).status, 2);
    EXPECT_FALSE(has(run({"--help"}).out, "guard"));
}

TEST_F(Usage, ReleaseFindsNothingWhereNothingWasHeld) {
    const std::string state = "--state-dir=" + (scratch_ / "state");
    const Outcome outcome = run({"release", state});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, "nothing is held\n");
    EXPECT_TRUE(run({"release", state, "--json"}).json().at("holds").empty());
    EXPECT_EQ(run({"release", "qdbd", state}).status, 2);
    EXPECT_FALSE(std::filesystem::exists(scratch_ / "state"));
}

TEST_F(Usage, WrongArgumentsAreToldBeforeAnythingIsOpened) {
    const std::vector<std::vector<std::string>> wrong = {
        {"list"},
        {"list", ""},
        {"list", "a", "b"},
        {"list", "s3://bucket/prefix"},
        {"show", "a"},
        {"show", "a", "latest", "p", "q"},
        {"show", "a", "--as-of", "yesterdayish"},
        {"diff", "a", "latest"},
        {"diff", "a", "--as-of", "now"},
        {"diff", "a", "b", "c", "d"},
        {"dump", "a", "latest"},
        {"restore", "a", "latest"},
        {"restore", "a", "--as-of", "now"},
        {"restore", "a", "latest", "d", "--owner-map", "user:=x"},
        {"restore", "a", "latest", "d", "--owner-map", "qdb=x"},
        {"restore", "a", "latest", "d", "--owner-map", "user:a=1", "--owner-map", "user:a=2"},
        {"backup", "a"},
        {"backup", "a", "b", "--limit", "fast"},
        {"backup", "a", "b", "--limit", "-1"},
        {"backup", "a", "b", "--limit", "1M", "--limit", "2M"},
        {"backup", "a", "b", "--limit"},
        {"backup", "a", "b", "--workers", "0"},
        {"backup", "a", "b", "--workers", "9"},
        {"list", "a", "--json=perhaps"},
        {"restore", "a", "latest", "b", "--path", ""},
        {"restore", "a", "latest", "b", "--path="},
        {"dump", "a", "latest", "b", "--output", ""},
        {"restore", "a", "latest", "b", "--workers", "9"},
        {"restore", "a", "latest", "b", "--scratch-dir", "c"},
        {"backup", "a", "b", "--workers", "2x"},
        {"backup", "a", "b", "--snapshot", "zfs"},
        {"backup", "a", "b", "--tag", "a b"},
        {"backup", "a", "b", "--exclude", "[a"},
        {"backup", "a", "b", "--exclude-from", "/nowhere/at/all"},
        {"backup", "a", "b", "--exclude-from", "/"},
        {"backup", "a", "b", "--wait-lock", "soon"},
        {"backup", "a", "b", "--lock-lease", "0"},
        {"backup", "a", "b", "--lock-lease", "2d"},
        {"backup", "a", "b", "--config", "/nowhere/at/all"},
        {"backup", "a", "b", "--keep-snapshot", "--drop-snapshot"},
        {"backup", "a", "b", "--snapshot", "none", "--keep-snapshot"},
        {"backup", "a", "b", "--snapshot", "none", "--drop-snapshot"},
        {"restore", "a", "latest", "b", "--in-place"},
        {"restore", "a", "latest", "b", "--keep-old"},
        {"restore", "a", "latest", "b", "--no-snapshot"},
        {"restore", "a", "latest", "b", "--delta", "--in-place", "--keep-old"},
        {"show", "a", "latest", "b", "--changes"},
        {"show", "a", "latest", "--changes", "--files"},
        {"show", "a", "latest", "--summary"},
        {"show", "a", "latest", "--scratch-dir", "/"},
        {"verify", "a", "b", "c"},
        {"verify", "a", "--workers", "9"},
        {"verify", "a", "--sample", "5%"},
        {"verify", "a", "--since", "30d"},
        {"verify", "a", "b", "--as-of", "now"},
        {"init", "a"},
        {"init", "a", "--node", "two words"},
        {"status", "a", "--max-age", "old"},
        {"forget"},
        {"forget", "a"},
        {"forget", "a", "--keep-last", "some"},
        {"forget", "a", "--keep-last", "-1"},
        {"forget", "a", "--keep-within", "long"},
        {"forget", "a", "--keep-tag", "a,,b"},
        {"forget", "a", "xyz"},
        {"forget", "a", "abcd", "--keep-last", "1"},
        {"forget", "a", "--keep-last", "1", "--allow-newest"},
        {"pin", "a"},
        {"pin", "a", "latest", "b"},
        {"unpin", "a"},
        {"snapshot"},
        {"snapshot", "explode", "a"},
        {"snapshot", "remove", "a"},
        {"snapshot", "create", "a", "../b"},
        {"snapshot", "create", "a", "b", "--snapshot", "none"},
    };
    for (const auto& arguments : wrong) {
        std::string line;
        for (const std::string& argument : arguments) {
            line += argument + " ";
        }
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.status, 2) << line << outcome.err;
        EXPECT_TRUE(outcome.err.starts_with("nodesnap: ")) << line << outcome.err;
        EXPECT_TRUE(has(outcome.err, "nodesnap " + arguments[0] + " --help")) << line << outcome.err;
        EXPECT_EQ(outcome.out, "") << line;
    }
}

TEST_F(Usage, ErrorsAreDocumentsWithJson) {
    for (const std::vector<std::string>& arguments : {std::vector<std::string>{"lst", "a", "--json"},
                                                      {"list", "--json"},
                                                      {"list", "/nowhere/at/all", "--json"},
                                                      {"dump", "a", "latest", "b", "--json"},
                                                      {"--json"}}) {
        const Outcome outcome = run(arguments);
        const auto document = outcome.json();
        EXPECT_EQ(document.at("warnings"), nlohmann::json::array());
        EXPECT_EQ(document.at("warning_count"), 0);
        EXPECT_EQ(document.at("error").at("exit_status"), outcome.status);
        EXPECT_NE(document.at("error").at("message"), "");
        EXPECT_NE(outcome.err, "");
    }
}

TEST_F(Usage, AnArgumentMayBeginWithADashAfterTwo) {
    const Outcome outcome = run({"list", "--", "-nowhere"});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_TRUE(has(outcome.err, "-nowhere")) << outcome.err;
}

TEST_F(Usage, MessagesHoldNoControls) {
    const Outcome outcome = run({"list", "/nowhere/\x1b[31m\nnodesnap: all is well\xff"});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_EQ(outcome.err.find('\x1b'), std::string::npos);
    EXPECT_EQ(outcome.err.find("\nnodesnap: all"), std::string::npos);
    EXPECT_TRUE(has(outcome.err, "\\x1b[31m\\x0anodesnap")) << outcome.err;
}

// ---- Configuration files

class Configuration : public test::ProgramTest {
protected:
    Outcome with(const std::string& own, const std::string& system = "", std::vector<std::string> more = {}) {
        write("own.conf", own);
        if (!system.empty()) {
            write("system.conf", system);
            system_configuration_ = scratch_ / "system.conf";
        }
        more.insert(more.end(), {"--config", scratch_ / "own.conf", "--json"});
        return backup(more);
    }
};

TEST_F(Configuration, OptionsAreReadFromFiles) {
    init();
    const Outcome outcome =
        with("# a comment\ntag = everywhere\n\n[backup]\nexclude = *.sst\nexclude=conf\n[restore]\nnumeric-ids = yes\n");
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto document = outcome.json();
    EXPECT_EQ(document["backup"]["tags"], nlohmann::json({"everywhere"}));
    EXPECT_EQ(document["backup"]["excludes"], nlohmann::json({"*.sst", "conf"}));
    EXPECT_EQ(document["backup"]["files"], 1);
}

TEST_F(Configuration, TheCommandLineCountsBeforeOwnBeforeSystem) {
    // Each of the lesser ones is wrong: it must not be looked at.
    EXPECT_EQ(init().status, 0);
    EXPECT_EQ(with("workers = 99\n", "", {}).status, 0) << "fixture gives --workers";
    EXPECT_EQ(with("limit = 1G\n", "limit = nonsense\n").status, 0);
    const Outcome outcome = with("", "limit = nonsense\n");
    EXPECT_EQ(outcome.status, 2);
    EXPECT_TRUE(has(outcome.err, "system.conf, line 1: limit: ")) << outcome.err;
}

TEST_F(Configuration, ASectionCountsBeforeWhatIsForAll) {
    init();
    EXPECT_EQ(with("limit = nonsense\n[backup]\nlimit = 1G\n").status, 0);
    EXPECT_EQ(with("limit = 1G\n[backup]\nlimit = nonsense\n").status, 2);
}

TEST_F(Configuration, AFlagCanBeTurnedOffOnTheCommandLine) {
    init();
    write("own.conf", "json = yes\n");
    EXPECT_TRUE(run({"list", repository(), "--config", scratch_ / "own.conf"}).json().contains("backups"));
    EXPECT_EQ(run({"list", repository(), "--config", scratch_ / "own.conf", "--json=no"}).out, "no backups\n");
    EXPECT_TRUE(run({"list", repository(), "--json=yes"}).json().contains("backups"));
    EXPECT_TRUE(run({"list", "--json", repository()}).json().contains("backups")) << "what stands apart is no value";
    EXPECT_TRUE(has(run({"help", "list"}).out, "  --json   ")) << run({"help", "list"}).out;
}

TEST_F(Configuration, AnOptionIsSetOnceInASection) {
    init();
    for (const std::string text : {"limit = 1G\nlimit = 2G\n", "[backup]\nlimit = 1G\n[restore]\n[backup]\nlimit=1G\n"}) {
        const Outcome outcome = with(text, "", {"--limit", "3G"});
        EXPECT_EQ(outcome.status, 2) << text;
        EXPECT_TRUE(has(outcome.err, "limit is set already, in ")) << outcome.err;
        EXPECT_TRUE(has(outcome.err, "own.conf, line ")) << outcome.err;
    }
    EXPECT_EQ(with("tag = a\ntag = b\nlimit = 2G\n[backup]\nlimit = 1G\n", "limit = 3G\n").status, 0);
}

TEST_F(Configuration, QuotesAroundAValueAreNoneOfIt) {
    init();
    const auto document = with("exclude = \"*.sst\"\nexclude = 'co nf '\nexclude = \"\"twice\"\"\nexclude = 12\"\n").json();
    EXPECT_EQ(document["backup"]["excludes"], nlohmann::json({"*.sst", "co nf ", "\"twice\"", "12\""}));
    EXPECT_EQ(document["backup"]["files"], 2);
}

TEST_F(Configuration, ErrorsNameFileAndLine) {
    for (const std::string text : {"# one\n[nosuch]\ntag = a\n", "# one\n\nconfig = x\n", "\n\nhelp = yes\n", "\n\nlimit =\n"}) {
        const Outcome outcome = with(text);
        EXPECT_EQ(outcome.status, 2) << text;
        EXPECT_TRUE(has(outcome.err, "own.conf, line 3: ")) << outcome.err;
        EXPECT_FALSE(has(outcome.err, "did you mean config?")) << outcome.err;
    }
}

TEST_F(Configuration, ListsAreJoined) {
    init();
    const auto document = with("tag = b\n", "tag = c\n", {"--tag", "a"}).json();
    EXPECT_EQ(document["backup"]["tags"], nlohmann::json({"a", "b", "c"}));
}

TEST_F(Configuration, WhatNobodyKnowsIsAnError) {
    for (const std::string text : {"exlude = *.tmp\n", "[backup]\nnumeric-ids = yes\n", "[bakcup]\ntag = a\n", "just words\n", "= x\n",
                                   "config = /etc/other\n", "skip-unreadable = perhaps\n"}) {
        const Outcome outcome = with(text);
        EXPECT_EQ(outcome.status, 2) << text;
    }
    EXPECT_TRUE(has(with("exlude = *.tmp\n").err, "own.conf, line 1: unknown option \"exlude\"")) << with("exlude = *.tmp\n").err;
}

}  // namespace
}  // namespace nodesnap
