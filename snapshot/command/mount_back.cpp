#include "snapshot/command/mount_back.h"

#include <exception>
#include <iostream>
#include <string_view>

#include "snapshot/backend/lvm_cut_off.h"
#include "snapshot/hold/action.h"

namespace nodesnap::command {

bool is_mount_back(int argc, char** argv) {
    return argc == 2 + static_cast<int>(hold::kMountBackArguments) && std::string_view(argv[1]) == hold::kMountBack;
}

int run_mount_back(const std::vector<std::string>& arguments) {
    try {
        MountBack request;
        request.directory = arguments[1];
        // Whoever lets go for another reason does so after nodesnap has ended, or has given up.
        if (arguments[0] == hold::name_of(hold::Reason::kMaxDowntime)) {
            request.pid = std::stoll(arguments[2]);
            request.process_start = std::stoull(arguments[3]);
        }
        mount_back(request);
        return 0;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}

}  // namespace nodesnap::command
