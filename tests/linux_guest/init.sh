#!/bin/busybox sh
# The first program of the Linux guest. Words between @ are filled in by tests/linux_guest.rs.
export PATH=/bin TZ=UTC
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
for module in @MODULES@; do insmod /$module.ko; done
mount -t virtiofs work /work
mount -t virtiofs root /root
echo "-- script"
sh -s /work < /script.sh
echo "-- end"
echo "-- program"
chroot /root @PROGRAM@
echo "-- end"
echo "-- read-only"
touch /root/var/tmp/x 2>&1
echo "-- end"
cd /
umount /work /root
poweroff -f
