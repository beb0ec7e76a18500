#include "snapshot/restore/surroundings.h"

#include "platform/error.h"
#include "platform/file.h"
#include "platform/path_below.h"
#include "snapshot/overlap.h"

namespace nodesnap {

void look_around(const Repository& repository, const RestorePlace& place, Report& report) {
    refuse_inside(repository.target(), place.parent);
    const auto own = repository.target().local_directory();
    if (place.delta && own && path_below(*own, place.destination)) {
        throw Error::refused("the repository lies inside " + place.destination + ", of which nothing stays that isn't in the backup",
                             "move the repository elsewhere");
    }
    const std::string& node = repository.info().node.path;
    if (place.kind == RestorePlace::Kind::kMountRoot || node.empty() || !stat_path(node)) {
        return;
    }
    if (const auto parent = path_below(place.parent, node)) {
        const std::string name = place.destination.substr(place.destination.rfind('/') + 1);
        const std::string inside = parent->empty() ? name : *parent + "/" + name;
        report.warn("the destination lies inside the node directory " + node + ": its next backups " +
                    (place.subvolume ? "are refused, since it is a nested subvolume," : "hold it too,") +
                    " until it is moved elsewhere or left out with " + exclude_option_of(inside));
    }
}

}  // namespace nodesnap
