#include "snapshot/drain/walk.h"

#include "snapshot/drain/change_walk.h"

namespace nodesnap {

void walk_source(DrainState& state, std::uint64_t root_ino, const ExcludeRules& excludes, SourceSink& sink) {
    if (state.parent == nullptr || !state.parent->tells_changes()) {
        SourceWalk(state.source, root_ino, excludes, sink, state.counterparts ? &*state.counterparts : nullptr, state.options.clones).run();
    } else {
        ChangeWalk(state.source, state.options.source_is_live, state.repository, *state.parent, excludes, state.catalog, sink,
                   state.options.scratch_directory)
            .run();
    }
}

}  // namespace nodesnap
