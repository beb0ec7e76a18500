#!/bin/bash
# Process 1 of a PID namespace of its own, in a mount namespace of its own: starts User-Mode Linux and ends with it. When it ends, or is killed, the
# kernel ends whatever is left in here: UML's guest processes are processes of the host, which would run on natively without their tracer.
#
#   namespace.sh RUN_DIRECTORY MEMORY DISK...      the guest's console goes to descriptor 3, UML's own messages to standard output
set -u
run=$1 memory=$2
shift 2
cannot() {
    echo "$1" >"$run/cannot"
    exit 126
}

# What the guest sees of the host is read-only but for the run's directory; devices aren't seen at all.
mount --bind "$run" "$run" && mount -o remount,bind,ro / || cannot "needs to mount in a namespace of its own"
mount -t tmpfs -o mode=755 tmpfs /dev && mkdir /dev/shm && mount -t tmpfs tmpfs /dev/shm || cannot "needs to mount tmpfs"
while read -r name major minor; do
    mknod -m 666 "/dev/$name" c "$major" "$minor" || cannot "needs to make device nodes"
done <<<$'null 1 3\nzero 1 5\nfull 1 7\nrandom 1 8\nurandom 1 9'

disks=()
for disk in "$@"; do
    disks+=("ubd${#disks[@]}=$disk")
done
# Without capabilities: a guest process that outlives its tracer for an instant finds nothing to harm.
TMPDIR=/dev/shm setpriv --bounding-set=-all --inh-caps=-all --no-new-privs linux.uml umid=guest "uml_dir=$run/" "mem=$memory" \
    root=/dev/root rootfstype=hostfs rootflags=/ ro "init=$run/init" "${disks[@]}" con=null ssl=null con0=null,fd:1 ssl0=null,fd:3 panic=1 \
    printk.time=1 quiet </dev/null &
wait $!
exit $?
