#include "snapshot/command/program.h"

#include <algorithm>
#include <cerrno>
#include <new>

#include "platform/file.h"
#include "snapshot/command/far_command.h"
#include "snapshot/command/help.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/profile.h"

namespace nodesnap::command {
namespace {

std::vector<std::string> command_names() {
    std::vector<std::string> names;
    for (const Command* command : all_commands()) {
        names.emplace_back(command->name);
    }
    return names;
}

const Command& require_command(const std::string& name) {
    if (const Command* command = find_command(name)) {
        return *command;
    }
    const std::string near = name.starts_with("-") ? suggestion(name, {"--help", "--version"}) : suggestion(name, command_names());
    throw Error::usage((name.starts_with("-") ? "unknown option " : "unknown command ") + ("\"" + printable_name(name) + "\""),
                       near.empty() ? "\"nodesnap help\" lists the commands" : near);
}

bool known_to_any_command(const std::string& option) {
    const auto& all = all_commands();
    return std::any_of(all.begin(), all.end(), [&](const Command* command) { return options_of(*command).has(option); });
}

const Command& command_of_section(const ConfigEntry& entry) {
    if (const Command* command = find_command(entry.section)) {
        return *command;
    }
    const std::string near = suggestion(entry.section, command_names());
    throw Error::usage(entry.place + ": there is no command \"" + entry.section + "\" for a section [" + entry.section + "]",
                       near.empty() ? "\"nodesnap help\" lists the commands" : near);
}

// A name that no command, or not the section's, knows is an error: a typing mistake in an exclude must not go unnoticed.
bool meant_for(const Command& command, const OptionSet& set, const ConfigEntry& entry) {
    const bool for_all = entry.section.empty();
    const OptionSet known = for_all || entry.section == command.name ? set : options_of(command_of_section(entry));
    if (entry.name == "help" || entry.name == "config") {
        throw Error::usage(entry.place + ": " + entry.name + " can't be set in a configuration file");
    }
    const bool fits = known.has(entry.name);
    if (!fits && !(for_all && known_to_any_command(entry.name))) {
        throw Error::usage(entry.place + ": unknown option \"" + entry.name + "\"", suggestion(entry.name, known.names()));
    }
    return fits && (for_all || entry.section == command.name);
}

// The entries that are meant for this command, those of its own section first: there the first one counts.
std::vector<ConfigEntry> entries_for(const Command& command, const OptionSet& set, const std::vector<ConfigEntry>& entries) {
    std::vector<ConfigEntry> chosen;
    std::copy_if(entries.begin(), entries.end(), std::back_inserter(chosen),
                 [&](const ConfigEntry& entry) { return meant_for(command, set, entry); });
    std::stable_partition(chosen.begin(), chosen.end(), [](const ConfigEntry& entry) { return !entry.section.empty(); });
    return chosen;
}

void read_configuration(const std::string& file, std::vector<ConfigEntry>& entries) {
    const auto text = read_small_file(file);
    if (!text) {
        throw Error::usage("the configuration file " + file + " doesn't exist");
    }
    const auto more = parse_config(*text, file);
    entries.insert(entries.end(), more.begin(), more.end());
}

}  // namespace

Options read_options(const Command& command, const std::vector<std::string>& arguments, const std::string& system_configuration) {
    const OptionSet set = options_of(command);
    Options options(set, arguments);
    if (options.flag("help")) {
        return options;
    }
    std::vector<ConfigEntry> own, system;
    if (options.given("config")) {
        read_configuration(options.text("config"), own);
    }
    if (!system_configuration.empty() && stat_path(system_configuration)) {
        read_configuration(system_configuration, system);
    }
    options.add(set, entries_for(command, set, own));
    options.add(set, entries_for(command, set, system));
    if (set.has("profile") && options.given("profile")) {
        options.add(set, entries_for(command, set, profile_entries(options.text("profile"))));
    }
    return options;
}

namespace {

void print_error(Streams& streams, const Error& error, const char* command = nullptr) {
    std::ostream& err = streams.err;
    if (error.error_number() == EPIPE) {
        return;  // who reads the output has seen enough, as in `nodesnap list ... | head`; there is no other pipe
    }
    err << "nodesnap: " << printable_text(error.message()) << '\n';
    if (!error.hint().empty()) {
        err << "  hint: " << printable_text(error.hint()) << '\n';
    }
    if (command != nullptr && error.status() == ExitStatus::kUsage) {
        err << "  \"nodesnap " << command << " --help\" shows how it is used\n";
    }
}

void write_warnings(JsonWriter& document, const Report& report) {
    document.begin_array("warnings");
    for (const std::string& warning : report.warnings()) {
        document.element(warning);
    }
    document.end();
    document.member("warning_count", report.count());
}

void write_error(JsonWriter& document, const Error& error) {
    document.begin_object("error");
    document.member("message", error.message());
    document.member("hint", error.hint());
    document.member("errno", error.error_number());
    document.member("exit_status", static_cast<int>(error.status()));
    document.end();
}

void print_warning(std::ostream& err, const std::string& text) {
    err << "nodesnap: warning: " << printable_text(text) << '\n';
}

void print_warnings(std::ostream& err, const Report& report) {
    const auto warnings = report.warnings();
    for (const std::string& warning : warnings) {
        print_warning(err, warning);
    }
    if (report.count() > warnings.size()) {
        err << "nodesnap: warning: and " << report.count() - warnings.size() << " more\n";
    }
}

// Error, or what the standard library throws, as an Error.
template <typename Function>
std::optional<Error> error_of(Function function) {
    try {
        function();
        return std::nullopt;
    } catch (const Error& error) {
        return error;
    } catch (const std::bad_alloc&) {
        return Error::failed("out of memory");
    } catch (const std::exception& error) {
        return Error::failed(error.what());
    }
}

// Ends the output of a call that has run: warnings, then the error if there is one. The status that the process ends with.
ExitStatus conclude(const Command& command, Call& call, ExitStatus status, const std::optional<Error>& error) {
    if (call.json()) {
        JsonWriter& document = call.document();
        document.unwind();
        write_warnings(document, call.report());
        if (error) {
            write_error(document, *error);
        }
        document.end();
    } else {
        print_warnings(call.streams().err, call.report());
    }
    if (error) {
        print_error(call.streams(), *error, command.name);
        return error->status();
    }
    return status == ExitStatus::kDone && call.report().count() != 0 ? ExitStatus::kWarnings : status;
}

// The output of a call that ended with `status` could not be written. What it has done, and damage it has found, count for more.
ExitStatus without_output(const Command& command, const Call& call, ExitStatus status, Streams& streams, const Error& error) {
    const bool fine = status == ExitStatus::kDone || status == ExitStatus::kWarnings;
    if (call.what_is_done().empty()) {
        print_error(streams, error, command.name);
        return fine ? ExitStatus::kFailed : status;
    }
    print_warning(streams.err, call.what_is_done() + ", but it could not be told: " + error.message());
    return fine ? ExitStatus::kWarnings : status;
}

ExitStatus run_command(const Command& command, Options options, Streams& streams) {
    Call call(std::move(options), streams);
    ExitStatus status = ExitStatus::kFailed;
    bool concluded = false;  // by the host of the repository
    const auto error = error_of([&] {
        const auto far = run_far(command, call);
        concluded = far.has_value();
        status = concluded ? *far : command.run(call);
    });
    if (concluded) {
        streams.out.flush();
        return status;
    }
    status = conclude(command, call, status, error);
    streams.out.flush();
    if (!error) {
        if (const auto unwritten = error_of([&] { call.check_output(); })) {
            return without_output(command, call, status, streams, *unwritten);
        }
    }
    return status;
}

ExitStatus tell(Streams& streams) {
    streams.out.flush();
    check_output(streams);
    return ExitStatus::kDone;
}

ExitStatus dispatch(const std::vector<std::string>& arguments, Streams& streams, const std::string& system_configuration) {
    if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || (arguments[0] == "help" && arguments.size() == 1)) {
        print_overview(streams.out);
        return tell(streams);
    }
    if (arguments[0] == "--version") {
        streams.out << "nodesnap " << NODESNAP_VERSION << '\n';
        return tell(streams);
    }
    if (arguments[0] == "help") {
        print_help(streams.out, require_command(arguments[1]));
        return tell(streams);
    }
    const Command& command = require_command(arguments[0]);
    Options options = read_options(command, {arguments.begin() + 1, arguments.end()}, system_configuration);
    if (options.flag("help")) {
        print_help(streams.out, command);
        return tell(streams);
    }
    return run_command(command, std::move(options), streams);
}

}  // namespace

int run_program(const std::vector<std::string>& arguments, Streams& streams, const std::string& system_configuration) {
    ExitStatus status = ExitStatus::kFailed;
    const auto error = error_of([&] { status = dispatch(arguments, streams, system_configuration); });
    if (error) {
        // The call didn't begin, or its output can't be written.
        status = error->status();
        if (std::find(arguments.begin(), arguments.end(), "--json") != arguments.end()) {
            JsonWriter document(streams.out);
            document.begin_object();
            write_warnings(document, Report{});
            write_error(document, *error);
            document.end();
        }
        const Command* command = arguments.empty() ? nullptr : find_command(arguments[0]);
        print_error(streams, *error, command == nullptr ? nullptr : command->name);
    }
    streams.out.flush();
    streams.err.flush();
    return static_cast<int>(status);
}

}  // namespace nodesnap::command
