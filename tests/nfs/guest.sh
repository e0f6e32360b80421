#!/bin/sh
# The first process of the virtual machine: an NFS server, and two clients with a network of their own each.
# The machine's root is that of the host, read-only; all that is written lies in the memory of the machine.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for folder in /run /mnt /var/lib/nfs; do mount -t tmpfs tmpfs $folder; done
mkdir -p /var/lib/nfs/v4recovery /mnt/export /mnt/modules/lib/modules
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
ln -s "/usr/lib/uml/modules/$(uname -r)" /mnt/modules/lib/modules/
for module in sunrpc nfsd nfsv4 veth; do modprobe -d /mnt/modules $module; done
ip link set lo up

mount -t nfsd nfsd /proc/fs/nfsd
echo 10 >/proc/fs/nfsd/nfsv4gracetime
exportfs -o rw,no_root_squash,fsid=0,insecure,no_subtree_check '*:/mnt/export'
rpc.mountd -N 2 -N 3 --no-udp
rpc.nfsd -N 3 -V 4.0 -V 4.1 -V 4.2 8
echo Y >/proc/fs/nfsd/v4_end_grace

number=1
for node in a b; do
    ip netns add $node
    ip link add host_$node type veth peer name eth0 netns $node
    ip addr add 10.0.$number.1/24 dev host_$node
    ip link set host_$node up
    ip -n $node addr add 10.0.$number.2/24 dev eth0
    ip -n $node link set eth0 up
    number=$((number + 1))
done
cd "$CHECKOUT"
PYTHONDONTWRITEBYTECODE=1 $PYTHON -m tests.nfs.scenarios $ROUNDS
echo "ended with $?"
poweroff -f
