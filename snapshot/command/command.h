// What a subcommand is, and what one call of it is given. One file per subcommand defines its Command; all_commands() lists them.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "platform/error.h"
#include "snapshot/command/json_writer.h"
#include "snapshot/command/options.h"
#include "snapshot/report.h"

namespace nodesnap::command {

// Where a call writes. In the program the standard streams; tests give others.
struct Streams {
    std::ostream& out;
    std::ostream& err;
    int out_fd = 1;  // for the bytes of `dump`
    bool out_is_terminal = false;
    bool err_is_terminal = false;  // here, or where it comes to be shown: a progress line is
};

// Error::system if something of the output could not be written. Told once it is flushed, or when much was written.
void check_output(const Streams& streams);

// One call of one subcommand.
class Call {
public:
    Call(Options options, Streams& streams);

    const Options& options() const { return options_; }
    Streams& streams() { return streams_; }
    std::ostream& out() { return streams_.out; }
    bool json() const { return json_; }
    bool shows_progress() const;
    JsonWriter& document();  // --json: the root object is begun
    Report& report() { return report_; }

    // Fetches the positional arguments in order. `name` is as in the usage line.
    std::string positional(const char* name);
    std::string optional_positional(const char* name);  // empty if there is none
    void end_of_positionals() const;
    // Fails when the reader of the output has gone away, so that a long listing ends.
    void check_output() const { nodesnap::command::check_output(streams_); }
    // What the call has changed for good, as in "the backup is made": that the output can't be written is only a warning then.
    void done(std::string what) { done_ = std::move(what); }
    const std::string& what_is_done() const { return done_; }

private:
    Options options_;
    Streams& streams_;
    bool json_;
    JsonWriter document_;
    Report report_;
    std::string done_;
    std::size_t next_ = 0;
};

struct Command {
    const char* name;
    const char* summary;      // one line
    const char* usage;        // one or several lines, without the program's name
    const char* description;  // paragraphs
    const char* examples;
    const char* statuses;  // what its exit statuses mean here
    void (*declare)(OptionSet& options);
    ExitStatus (*run)(Call& call);
};

extern const Command kInit, kBackup, kList, kShow, kFind, kDiff, kDump, kRestore, kRollback, kDrill, kVerify, kRepair, kForget, kPrune,
    kPin, kUnpin, kStatus, kDoctor, kUnlock, kRelease, kSnapshot, kServe, kCluster, kAgent;
const std::vector<const Command*>& all_commands();
const Command* find_command(const std::string& name);  // nullptr if there is none

// The command's options and those that every command has.
OptionSet options_of(const Command& command);

}  // namespace nodesnap::command
