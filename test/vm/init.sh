#!/bin/busybox sh
# pid 1 of the guest: puts the host's file tree, shared read-only by virtiofs, below an overlay in memory and goes on in it.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
while read -r module; do $bb insmod "/modules/$module.ko"; done < /modules/order
for word in $($bb cat /proc/cmdline); do
  case $word in vm.run=*) run=${word#vm.run=} ;; esac
done
$bb mount -t virtiofs -o ro host /host || { echo "vm: the file tree cannot be mounted"; $bb poweroff -f; }
$bb mount -t tmpfs -o size=90% rw /rw
$bb mkdir /rw/upper /rw/work
$bb mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work root /root || $bb poweroff -f
for fs in proc sys dev; do
  $bb mkdir -p /root/$fs
  $bb mount --move /$fs /root/$fs
done
exec $bb switch_root /root /bin/sh "$run/stage2"
