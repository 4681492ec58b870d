#!/usr/bin/env bash
# The scenario of files that are over their owner's quota (tests/tests/scenarios/unsealed.rs), on a kernel that has quotas: User-Mode Linux
# where this one has none. The root folder there is this machine's own; what is written lies in memory.
#
#   bash tests/with-quotas.sh [--profile dev]
#
# Exit status 77: cannot run here, and why on standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

cannot() { echo "$*" >&2; exit 77; }
[ "$(id -u)" -eq 0 ] || cannot 'not root'
for program in setquota repquota setpriv mkfs.ext4 jq python3; do
    command -v "$program" >/dev/null || cannot "$program is not installed (quota util-linux e2fsprogs jq python3)"
done
profile=release
[ "${1-}" != --profile ] || profile=$2

work=$(mktemp -d)
trap 'umount -l "$work/point" 2>/dev/null || true; rm -rf "$work"' EXIT
test=unsealed::what_is_over_its_owners_quota_is_sealed_once_there_is_more_of_it
scenarios=$(cargo test --locked --profile "$profile" --workspace --test scenarios --no-run --message-format=json |
    jq -r 'select(.executable != null and .target.name == "scenarios") | .executable')

# Whether this kernel has them.
mkdir "$work/point"
truncate -s 16M "$work/image"
mkfs.ext4 -q -F -O quota -E quotatype=usrquota "$work/image"
if mount -o loop,usrquota "$work/image" "$work/point" 2>/dev/null; then
    umount "$work/point"
    TOBARI_QUOTAS=1 "$scenarios" --exact "$test" --nocapture
    exit
fi

if ! command -v linux.uml >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends user-mode-linux >/dev/null 2>&1 ||
        cannot 'this kernel has no quotas, and User-Mode Linux cannot be installed'
fi
cat >"$work/init" <<INIT
#!/bin/bash
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm
for place in /run /dev/shm /mnt; do mount -t tmpfs -o mode=1777 memory "\$place"; done
ip link set lo up 2>/dev/null || ifconfig lo 127.0.0.1 up
# As insmod, which is not everywhere; 313 is finit_module.
load='import ctypes, sys; file = open(sys.argv[1]); sys.exit(ctypes.CDLL(None).syscall(313, file.fileno(), b"", 0))'
for module in drivers/block/loop fs/quota/quota_tree fs/quota/quota_v2; do
    python3 -c "\$load" "/usr/lib/uml/modules/\$(uname -r)/kernel/\$module.ko"
done
export PATH=$PATH HOME=/root LANG=C.UTF-8 TMPDIR=/mnt TOBARI_QUOTAS=1
cd "$PWD"
"$scenarios" --exact "$test" --nocapture >"$work/output" 2>&1 </dev/null
echo \$? >"$work/status"
sync
echo o >/proc/sysrq-trigger
sleep 60
INIT
chmod 700 "$work/init"
# Told once; what the test says is in a file.
timeout 900 linux.uml mem=1G rootfstype=hostfs rootflags=/ rw init="$work/init" con=null con0=null,fd:1 quiet \
    >"$work/console" 2>&1 </dev/null || true
if [ ! -e "$work/status" ]; then
    tail -20 "$work/console" >&2
    [ -e "$work/output" ] || cannot 'User-Mode Linux does not start here'
fi
cat "$work/output"
exit "$(cat "$work/status" 2>/dev/null || echo 1)"
