#!/bin/bash
# In the guest's overlay: loads the modules, sets LVM up to do without udev, runs the command and powers off.
stty -F /dev/ttyS0 raw -echo
exec </dev/null >/dev/ttyS0 2>&1
touch /host/booted
for module in dm-mod dm-snapshot dm-thin-pool dm-log-writes xfs btrfs loop; do
    busybox modprobe $module || echo "guest: there is no module $module"
done
if [[ ! -e /dev/mapper/control ]]; then
    mkdir -p /dev/mapper
    mknod /dev/mapper/control c 10 236
fi
mkdir -p /etc/lvm
cat >/etc/lvm/lvm.conf <<'CONFIGURATION'
devices {
    use_devicesfile=0
    obtain_device_list_from_udev=0
    external_device_info_source="none"
    scan="/dev"
    filter=["a|^/dev/ubd|", "r|.*|"]
    types=["ubd", 16]
}
activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 monitoring=0 }
global { use_lvmpolld=0 use_lvmlockd=0 event_activation=0 }
backup { backup=0 archive=0 }
CONFIGURATION
export DM_DISABLE_UDEV=1 TMPDIR=/tmp
. /host/command # defines `run` and the environment that the test was called with
run
echo $? >/host/status
sync
exec busybox poweroff -f
