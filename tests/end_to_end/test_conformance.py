"""The conformance suite on all backends and layouts that loop devices can have; those of LVM are in tests/guest."""

from functools import partial

import conformance
import harness
from storage import Btrfs, Hardlink, NamelessClones, NamelessLinks, Nothing, ReflinkOnBtrfs, ReflinkOnXfs

globals().update(conformance.cases(
    __name__,
    BtrfsFolder=partial(Btrfs, layout="folder"),
    BtrfsSubvolume=partial(Btrfs, layout="subvolume"),
    BtrfsMounted=partial(Btrfs, layout="mounted subvolume"),
    BtrfsTopLevel=partial(Btrfs, layout="top level"),
    ReflinkXfsFolder=partial(ReflinkOnXfs, layout="folder"),
    ReflinkXfsRoot=partial(ReflinkOnXfs, layout="mount root"),
    ReflinkBtrfsFolder=partial(ReflinkOnBtrfs, layout="folder"),
    HardlinkFolder=partial(Hardlink, layout="folder"),
    HardlinkRoot=partial(Hardlink, layout="mount root"),
    NamelessLinksRoot=partial(NamelessLinks, layout="mount root"),
    NamelessClonesRoot=partial(NamelessClones, layout="mount root"),
    NoneFolder=partial(Nothing, layout="folder"),
    NoneRoot=partial(Nothing, layout="mount root"),
))

if __name__ == "__main__":
    harness.main()
