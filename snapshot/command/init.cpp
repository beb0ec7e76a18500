// nodesnap init: makes an empty repository for one node.
#include <cerrno>

#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.value("node", "NAME", "the node's name, as you call it among its cluster's nodes (required)");
    options.flag("json", "print the result as a JSON document");
}

void check_name(const std::string& name) {
    if (name.empty()) {
        throw Error::usage("--node NAME is missing", "a repository holds the backups of one node; give the name that you call it by");
    }
    constexpr std::size_t kLongest = 128;
    if (name.size() > kLongest || printable_name(name) != name || name.find_first_of(" /\\") != std::string::npos) {
        throw Error::usage("\"" + shortened(printable_name(name)) + "\" is not a name for a node",
                           "up to 128 bytes without blanks, slashes and controls");
    }
}

// What stands in the way on a read-only file system is a precondition, as it is for `backup`.
std::shared_ptr<Target> make_place(const Options& options, const std::string& place) {
    try {
        auto target = open_target(options, place, true);
        target->check_writable();
        return target;
    } catch (const Error& error) {
        if (error.error_number() == EROFS) {
            throw Error(ExitStatus::kRefused, error.message(), "remount it read-write, or make the repository elsewhere", EROFS);
        }
        throw;
    }
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    const std::string name = call.options().text("node");
    check_name(name);
    if (!is_far(place)) {
        check_parent(place);  // otherwise it is done there
    }
    const auto target = make_place(call.options(), place);
    Repository::create(*target, name);
    call.done("the repository " + target->describe() + " is made");
    const Repository repository = open_repository(call, place);
    if (call.json()) {
        JsonWriter& document = call.document();
        document.name("repository", target->describe());
        document.member("uuid", repository.info().uuid.text());
        document.member("node", name);
    } else {
        call.out() << "made repository " << printable_name(target->describe()) << " for node " << name << '\n'
                   << "uuid: " << repository.info().uuid.text() << '\n';
    }
    return ExitStatus::kDone;
}

}  // namespace

const Command kInit = {
    "init",
    "make an empty repository for one node",
    "nodesnap init REPOSITORY --node NAME [OPTION]...\n",
    "Makes the directory REPOSITORY, if it isn't there (its parent must be), and in it an empty repository; ssh://[USER@]HOST/PATH is\n"
    "one on another host, where nodesnap must be installed. A directory that\n"
    "holds anything is refused. A repository holds the backups of exactly one node: the first backup binds it to the node.\n",
    "nodesnap init /backup/node1 --node node1\n"
    "nodesnap init ssh://backup@host2/backup/node1 --node node1\n",
    "0  the repository is there\n"
    "1  failed\n"
    "2  wrong usage\n"
    "3  refused: the directory isn't empty, is a repository already or lies inside one, can't be written to, or its parent doesn't\n"
    "   exist\n",
    declare,
    run,
};

}  // namespace nodesnap::command
