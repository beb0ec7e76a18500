#!/bin/bash
# Process 1 of the guest, on a read-only view of the host's root: lays a scratch overlay over it, and goes on in there with start.sh.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
run=${0%/*}
modules=/usr/lib/uml/modules/$(uname -r)
new=/mnt/new
mount -n -t proc proc /proc
mount -n -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /mnt/{upper,work,lower,new}
busybox insmod "$modules/kernel/fs/overlayfs/overlay.ko"
mount -n -t hostfs -o / none /mnt/lower -r
mount -n -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work overlay $new
mkdir -p $new/lib/modules $new/host
ln -sfn "$modules" "$new/lib/modules/${modules##*/}"
mount -n -t proc proc $new/proc
mount -n -t sysfs sysfs $new/sys
mount -n -t devtmpfs devtmpfs $new/dev
mkdir -p $new/dev/shm $new/dev/pts
mount -n -t tmpfs tmpfs $new/dev/shm
mount -n -t devpts devpts $new/dev/pts
ln -sfn /proc/self/fd $new/dev/fd
mount -n -t tmpfs -o mode=755 tmpfs $new/run
mkdir -p $new/run/lvm $new/run/lock/lvm
mount -n -t tmpfs -o mode=1777 tmpfs $new/tmp
mount -n -t tmpfs -o mode=1777 tmpfs $new/var/tmp
mount -n -t hostfs -o "$run" none $new/host
while read -r directory; do
    mkdir -p "$new$directory"
    mount -n -t hostfs -o "$directory" none "$new$directory" -r
done <"$run/visible"
mount -n -t cgroup2 cgroup2 $new/sys/fs/cgroup
busybox ifconfig lo 127.0.0.1 up
busybox hostname guest
exec busybox chroot $new /bin/bash /host/start
