# Continues in the guest on the host's file tree: the rest of a normal system, then the command. RELEASE, MODULES, RUN and
# DIRECTORY are set above this text by vm.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /dev/pts /dev/shm /run /lib/modules
mount -t devpts devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
rm -rf "/lib/modules/$RELEASE"
ln -s "$MODULES" "/lib/modules/$RELEASE"
ip link set lo up
hostname vm
for module in ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sh ip_vs_mh ip_vs_sed ip_vs_nq nf_tables nft_chain_nat nft_ct nft_nat nft_masq \
  nft_fib_inet nft_numgen nft_hash nft_reject_inet nf_conntrack nf_conntrack_netlink veth bridge br_netfilter dummy ipip macvlan vxlan tun; do
  modprobe -q "$module" || echo "vm: module $module does not load" > /dev/console
done
# Where the kernel looks at hooks it has a jump, which it patches in and out with the first and the last hook of the machine. Emulated processors
# (QEMU 7.2) that run the code at that moment may meet the breakpoint of the patching again and again and never come to the end. With hooks that
# stay, in a namespace of their own, there is nothing to patch.
{
  for hook in prerouting input forward output postrouting; do
    printf 'add table %s keep\nadd chain %s keep %s { type filter hook %s priority 0; }\n' inet inet $hook $hook bridge bridge $hook $hook
  done
  for hook in input output; do
    printf 'add table arp keep\nadd chain arp keep %s { type filter hook %s priority 0; }\n' $hook $hook
  done
} > /run/keep.nft
unshare -n sh -c 'nft -f /run/keep.nft || echo "vm: hooks cannot be kept" > /dev/console; exec sleep 2147483647' > /dev/null 2>&1 < /dev/null &
cd "$DIRECTORY"
# The ports are called vportNpM, where N depends on the order of the devices; M is what vm gave them.
set -- /dev/vport*p1
port=${1%1}
# A port opens once only, but programs may open /dev/stdout again: they get pipes.
mkfifo /run/vm-stdout /run/vm-stderr
cat /run/vm-stdout > "${port}1" & out=$!
cat /run/vm-stderr > "${port}2" & err=$!
/bin/sh "$RUN/command" > /run/vm-stdout 2> /run/vm-stderr < /dev/null
code=$?
# Processes that outlive the command keep its pipes open; what they still say is waited for, but not for long.
(sleep 2; kill $out $err) 2>/dev/null &
wait $out $err
echo "$code" > "${port}3"
sync
poweroff -f 2>/dev/null || busybox poweroff -f
