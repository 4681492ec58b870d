#!/usr/bin/env bash
# Measures Tobari beside familiar tools on this machine and prints ratios. Needs openssl, jq and, for the comparison,
# gocryptfs; nothing else should run meanwhile. What docs/performance.md says was made by this script.
#
#   bash tests/bench/run.sh [all|cipher|memory|disk|files|grants|sessions]...
#   TOBARI_BENCH_DIR=/path   where the files are written (default: a folder under $TMPDIR; needs 5 GiB)
#   TOBARI_BENCH_MIB=1024    size of the large file
set -euo pipefail
cd "$(dirname "$0")/../.."

mib=${TOBARI_BENCH_MIB:-1024}
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(all)
wants() { [[ " ${wanted[*]} " == *' all '* || " ${wanted[*]} " == *" $1 "* ]]; }
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH

cargo build --quiet --locked --release -p tobari-core --example measure
target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)
measure=$target/release/examples/measure

dir=$(mktemp -d "${TOBARI_BENCH_DIR:-${TMPDIR:-/tmp}}/tobari-bench.XXXXXX")
mounted='' database_pid=''
stop_database() { [ -z "$database_pid" ] || { kill -INT "$database_pid"; wait "$database_pid" || true; }; database_pid=''; }
cleanup() {
    stop_database
    [ -z "$mounted" ] || fusermount -u "$mounted" 2>/dev/null || umount "$mounted"
    rm -rf "$dir"
}
trap cleanup EXIT

declare -A value
take() { while read -r name number; do value[$1_$name]=$number; printf '  %-42s %s\n' "$1 $name" "$number"; done; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
say() { printf '  %-58s %s\n' "$1" "$2"; }
# Seconds that a command takes, best of three; the second argument is run, untimed, before each.
timed() {
    local best='' before=$1 start end
    shift
    for _ in 1 2 3; do
        eval "$before"
        start=$(date +%s.%N)
        "$@"
        end=$(date +%s.%N)
        best=$(awk -v a="$start" -v b="$end" -v c="$best" 'BEGIN { t = b - a; print (c == "" || t < c) ? t : c }')
    done
    echo "$best"
}
per_second() { awk -v n="$1" -v t="$2" 'BEGIN { printf "%.0f", n / t }'; }
# MiB/s of AES-256-GCM in OpenSSL, in blocks of 16 KiB.
openssl_gcm() { openssl speed -mr -seconds 2 -bytes 16384 "$@" -evp aes-256-gcm 2>/dev/null | awk -F: '/^\+F/ { printf "%.0f", $NF / 1048576 }'; }

echo 'Machine'
say processor "$(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores"
say memory "$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
say kernel "$(uname -sr)"
say 'file system' "$(df --output=fstype "$dir" | tail -1) on $(df --output=source "$dir" | tail -1)"
say 'load before' "$(cut -d' ' -f1-3 /proc/loadavg)"
say openssl "$(openssl version)"
say rustc "$(rustc --version)"

last=$(($(nproc) - 1))
if wants cipher || wants memory; then
    printf '\nCipher alone, one thread, MiB/s\n'
    take cipher < <(taskset -c "$last" "$measure" cipher "$mib")
    value[openssl]=$(taskset -c "$last" openssl speed -mr -seconds 2 -bytes 16384 -evp aes-256-gcm 2>/dev/null | awk -F: '/^\+F/ { printf "%.0f", $NF / 1048576 }')
    say 'openssl speed -evp aes-256-gcm -bytes 16384' "${value[openssl]}"
    say 'bulk provider in cache / openssl' "$(ratio "${value[cipher_cache_aws-lc-rs]}" "${value[openssl]}")"
    say 'second provider in cache / openssl' "$(ratio "${value[cipher_cache_RustCrypto]}" "${value[openssl]}")"
fi

if wants memory; then
    printf '\nSealing %s MiB in memory, MiB/s\n' "$mib"
    take one < <(taskset -c "$last" "$measure" memory "$mib" 1)
    take all < <("$measure" memory "$mib" 0)
    value[openssl_multi]=$(openssl_gcm -multi "$(nproc)")
    say "openssl speed -multi $(nproc)" "${value[openssl_multi]}"
    say 'seal on one core / openssl (goal: 0.80)' "$(ratio "${value[one_memory_seal]}" "${value[openssl]}")"
    say 'seal on one core / bulk provider over memory, in place' "$(ratio "${value[one_memory_seal]}" "${value[cipher_memory_aws-lc-rs]}")"
    say 'seal on one core / copying the same data' "$(ratio "${value[one_memory_seal]}" "${value[cipher_memory_copy]}")"
    say "seal on $(nproc) cores / openssl -multi $(nproc)" "$(ratio "${value[all_memory_seal]}" "${value[openssl_multi]}")"
    say 'seal and read-back, one core / seal alone' \
        "$(awk -v s="${value[one_memory_seal]}" -v r="${value[one_memory_read_back_RustCrypto]}" 'BEGIN { printf "%.2f", (1 / (1 / s + 1 / r)) / s }')"
    say 'seal and read-back, one core / openssl' \
        "$(awk -v s="${value[one_memory_seal]}" -v r="${value[one_memory_read_back_RustCrypto]}" -v o="${value[openssl]}" 'BEGIN { printf "%.2f", (1 / (1 / s + 1 / r)) / o }')"
fi

if wants disk; then
    printf '\nSealing a file of %s MiB on disk, with fsync, MiB/s\n' "$mib"
    head -c "${mib}M" /dev/urandom >"$dir/plain"
    cat "$dir/plain" >/dev/null
    for run in 1 2 3; do take "run$run" < <(rm -f "$dir/sealed"; sync; "$measure" disk "$dir/plain" "$dir/sealed" 0); done
    best=$(printf '%s\n' "${value[run1_disk_seal]}" "${value[run2_disk_seal]}" "${value[run3_disk_seal]}" | sort -n | tail -1)
    copy() { dd if="$dir/plain" of="$1/copy" bs=1M conv=fsync status=none; }
    plain=$(per_second "$mib" "$(timed "rm -f '$dir/copy'; sync" copy "$dir")")
    say 'dd conv=fsync, unencrypted' "$plain"
    say 'seal / dd' "$(ratio "$best" "$plain")"
    if command -v gocryptfs >/dev/null && [ -e /dev/fuse ]; then
        mkdir "$dir/cipher" "$dir/mount"
        echo bench >"$dir/password"
        gocryptfs -q -init -passfile "$dir/password" "$dir/cipher" >/dev/null
        gocryptfs -q -passfile "$dir/password" "$dir/cipher" "$dir/mount"
        mounted=$dir/mount
        other=$(per_second "$mib" "$(timed "rm -f '$dir/mount/copy'; sync" copy "$dir/mount")")
        say "dd conv=fsync into $(gocryptfs --version | cut -d';' -f1)" "$other"
        say 'seal / gocryptfs' "$(ratio "$best" "$other")"
        say 'seal and read-back / gocryptfs' \
            "$(awk -v s="$best" -v r="${value[run3_disk_read_back]}" -v g="$other" 'BEGIN { printf "%.2f", (1 / (1 / s + 1 / r)) / g }')"
        fusermount -u "$mounted" 2>/dev/null || umount "$mounted"
        mounted=''
    else
        say gocryptfs 'not installed: not compared'
    fi
    say 'peak memory of seal and read-back, MiB (goal: under 64)' "${value[run3_peak_memory_mib]}"
    rm -rf "$dir"/{plain,copy,sealed,cipher,mount}
fi

if wants files; then
    printf '\n10,000 files of 4 KiB, files/s\n'
    mkdir "$dir/small"
    head -c 40960000 /dev/urandom | split -b 4096 -a 4 -d - "$dir/small/file"
    for how in seal check sync copy; do
        for run in 1 2 3; do
            rm -rf "$dir/sealed"
            sync
            read -r _ speed < <("$measure" files "$dir/small" "$dir/sealed" "$how")
            [ "${value[$how]:-0}" -ge "$speed" ] || value[$how]=$speed
        done
    done
    copied=$(per_second 10000 "$(timed "rm -rf '$dir/copied'; sync" cp -a "$dir/small" "$dir/copied")")
    say seal "${value[seal]}"
    say 'seal with read-back' "${value[check]}"
    say 'seal with fsync of each file and read-back' "${value[sync]}"
    say 'plain copy with fsync of each file' "${value[copy]}"
    say 'cp -a' "$copied"
    say 'seal with read-back / cp -a' "$(ratio "${value[check]}" "$copied")"
    say 'seal with fsync and read-back / copy with fsync' "$(ratio "${value[sync]}" "${value[copy]}")"
    rm -rf "$dir"/{small,sealed,copied}
fi

if wants grants; then
    printf '\nGrants, audited; client and server on this machine\n'
    cargo build --quiet --locked --release -p tobari-keyserver -p tobari-tests --bins
    take grants < <(TOBARI_BIN_DIR=$target/release "$target/release/grant-load" 10)
    postgres=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
    if [ -x "${postgres:-/nowhere}/initdb" ]; then
        # A cluster of its own on the same disk, with Debian's settings; not root's, and not below $TMPDIR, as a socket's path is short.
        database=$dir/postgres
        mkdir -m 700 "$database"
        as=()
        if [ "$(id -u)" -eq 0 ]; then
            chmod 711 "$dir"
            chown nobody "$database"
            as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
        fi
        (cd / && "${as[@]}" "$postgres/initdb" --auth=trust --username=tobari --encoding=UTF8 --no-locale -D "$database/data") >"$dir/initdb.log"
        (cd / && exec "${as[@]}" "$postgres/postgres" -D "$database/data" -k "$database" -c listen_addresses=) >"$dir/postgres.log" 2>&1 &
        database_pid=$!
        chmod 711 "$database"
        for _ in $(seq 600); do "$postgres/createdb" -h "$database" -U tobari tobari 2>/dev/null && break; sleep 0.1; done
        take postgres < <(TOBARI_BENCH_STORE="postgres://tobari@localhost/tobari?host=$database" TOBARI_BIN_DIR=$target/release \
            "$target/release/grant-load" 10)
        stop_database
    else
        printf '  PostgreSQL: not measured: not installed\n'
    fi
    sign=$(openssl speed -mr -seconds 3 -multi "$(nproc)" rsa2048 2>/dev/null | awk -F: '/^\+F2/ { printf "%.0f", $4 }')
    say "openssl speed -multi $(nproc) rsa2048, private operations/s" "$sign"
    say 'single grants / RSA private operations' "$(ratio "${value[grants_single_per_second]}" "$sign")"
    say 'files in batches / RSA private operations' "$(ratio "${value[grants_batch_files_per_second]}" "$sign")"
    say 'grants that cost an RSA operation each / the operations' "$(ratio "${value[grants_cold_per_second]}" "$sign")"
    say 'goals' 'single 3000/s, batches 30000 files/s, 99th percentile at half load 20 ms'
fi

if wants sessions; then
    if [ "$(id -u)" -eq 0 ] && [ -e /dev/fuse ] && command -v bwrap >/dev/null && command -v python3 >/dev/null; then
        printf '\nSessions; key server, daemon and session on this machine\n'
        cargo build --quiet --locked --release -p tobari-keyserver -p tobari-daemon -p tobari-cli -p tobari-tests --bins
        take session < <(TOBARI_BIN_DIR=$target/release "$target/release/session-load" 20)
        say 'goal' 'start 150 ms beyond the program'
    else
        printf '\nSessions: not measured: not root, or no FUSE, bwrap or python3\n'
    fi
fi
