#include "snapshot/command/command.h"

#include <algorithm>
#include <cerrno>

#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {

Call::Call(Options options, Streams& streams)
    : options_(std::move(options)), streams_(streams), json_(options_.flag("json")), document_(streams.out) {}

bool Call::shows_progress() const {
    return streams_.err_is_terminal && !json_ && !options_.flag("quiet");
}

JsonWriter& Call::document() {
    if (!document_.started()) {
        document_.begin_object();
    }
    return document_;
}

std::string Call::positional(const char* name) {
    const auto& given = options_.positionals();
    if (next_ >= given.size()) {
        throw Error::usage(std::string(name) + " is missing");
    }
    if (given[next_].empty()) {
        throw Error::usage(std::string(name) + " is empty");
    }
    return given[next_++];
}

std::string Call::optional_positional(const char* name) {
    return next_ < options_.positionals().size() ? positional(name) : std::string{};
}

void Call::end_of_positionals() const {
    if (next_ < options_.positionals().size()) {
        throw Error::usage("unexpected argument \"" + printable_name(options_.positionals()[next_]) + "\"");
    }
}

void check_output(const Streams& streams) {
    if (!streams.out.good()) {
        throw Error::system("write to", "standard output", errno != 0 ? errno : EIO);
    }
}

const std::vector<const Command*>& all_commands() {
    static const std::vector<const Command*> kAll = {&kInit,     &kBackup, &kList,   &kShow,    &kFind,     &kDiff,  &kDump,    &kRestore,
                                                     &kRollback, &kDrill,  &kVerify, &kRepair,  &kForget,   &kPrune, &kPin,     &kUnpin,
                                                     &kStatus,   &kDoctor, &kUnlock, &kRelease, &kSnapshot, &kServe, &kCluster, &kAgent};
    return kAll;
}

const Command* find_command(const std::string& name) {
    const auto& all = all_commands();
    const auto found = std::find_if(all.begin(), all.end(), [&](const Command* command) { return name == command->name; });
    return found == all.end() ? nullptr : *found;
}

OptionSet options_of(const Command& command) {
    OptionSet options;
    command.declare(options);
    if (&command != &kServe && &command != &kRelease && &command != &kRollback && &command != &kCluster && &command != &kAgent) {
        declare_remote(options);
    }
    options.value("config", "FILE", "read options from this INI file too, besides /etc/nodesnap/nodesnap.conf");
    options.flag("help,h", "show this help");
    return options;
}

}  // namespace nodesnap::command
