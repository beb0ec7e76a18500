#include "snapshot/command/profile.h"

#include <algorithm>

#include "platform/error.h"
#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

struct Profile {
    const char* name;
    const char* text;  // a configuration file
};

// RocksDB, and so quasardb, syncs what it needs in the order that it needs it in, and so does PostgreSQL: they recover from what a power
// cut leaves, which is what crash-consistent means. The validate commands open what was restored, never the node itself. That they may
// write to it is as it should be: so would the daemon.
constexpr Profile kProfiles[] = {
    {"quasardb",
     "immutable = *.sst\n"
     "[backup]\n"
     "unit = qdbd.service\n"
     "need = crash-consistent\n"
     "version-command = qdbd --version\n"
     "[restore]\n"
     "gate-file = CURRENT\n"
     "version-command = qdbd --version\n"
     "[drill]\n"
     "validate-command = qdb_dbtool --database=\"$NODESNAP_DIRECTORY\" --analyze\n"},
    {"rocksdb",
     "immutable = *.sst\n"
     "immutable = *.blob\n"
     "[backup]\n"
     "need = crash-consistent\n"
     "[restore]\n"
     "gate-file = CURRENT\n"
     "[drill]\n"
     "validate-command = ldb --db=\"$NODESNAP_DIRECTORY\" checkconsistency\n"},
    {"postgresql",
     "[backup]\n"
     "need = crash-consistent\n"
     "exclude = /postmaster.pid\n"
     "version-command = postgres --version\n"
     "[restore]\n"
     "gate-file = PG_VERSION\n"
     "version-command = postgres --version\n"
     "[drill]\n"
     "validate-command = pg_controldata -D \"$NODESNAP_DIRECTORY\"\n"},
    {"generic", ""},
};

}  // namespace

void declare_profile(OptionSet& options) {
    options.value("profile", "NAME", "what fits an engine, where nothing else is said: quasardb, rocksdb, postgresql or generic");
}

const std::vector<std::string>& profile_names() {
    static const std::vector<std::string> kNames = [] {
        std::vector<std::string> names;
        for (const Profile& profile : kProfiles) {
            names.emplace_back(profile.name);
        }
        return names;
    }();
    return kNames;
}

std::vector<ConfigEntry> profile_entries(const std::string& name) {
    const auto* const found =
        std::find_if(std::begin(kProfiles), std::end(kProfiles), [&](const Profile& profile) { return name == profile.name; });
    if (found == std::end(kProfiles)) {
        const std::string near = suggestion(name, profile_names());
        throw Error::usage("--profile: there is no profile \"" + shortened(printable_name(name)) + "\"",
                           near.empty() ? "quasardb, rocksdb, postgresql and generic are" : near);
    }
    return parse_config(found->text, "the profile " + name);
}

}  // namespace nodesnap::command
