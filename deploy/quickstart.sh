#!/usr/bin/env bash
# From nothing to a sealed folder and an opened file, on one machine: installs what is missing, builds, starts a key
# server (SQLite) and a daemon in a folder of their own, and plays the 社外秘 case with three people on real documents.
# Nothing outside that folder is changed. Run it as often as you like.
#
#   bash deploy/quickstart.sh [--keep] [--dir FOLDER] [--bin-dir FOLDER]
#
#   --keep       leave the key server and the daemon running, and print how to go on
#   --dir        work in this folder (made; must not exist or be empty) instead of a temporary one
#   --bin-dir    use the programs in this folder instead of building
set -euo pipefail

keep=false dir='' bin_dir=''
usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
        --keep) keep=true ;;
        --dir) dir=${2:?--dir needs a folder}; shift ;;
        --bin-dir) bin_dir=${2:?--bin-dir needs a folder}; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "quickstart: error: unknown option '$1'" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

repo=$(cd "$(dirname "$0")/.." && pwd)
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'quickstart: error: %s\n' "$*" >&2; exit 1; }
show() { printf '$ %s\n' "$*" >&2; "$@"; }

# --- what is missing ------------------------------------------------------------------------------------------------
install_packages() { # package...
    local sudo=''
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    command -v apt-get >/dev/null || die "please install: $*"
    [ -z "$sudo" ] || command -v sudo >/dev/null || die "not root and no sudo; please install: $*"
    echo "installing: $*"
    $sudo apt-get -o Acquire::Retries=3 update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends "$@" >/dev/null
}

step 'What is missing'
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); } # program package
[ -n "$bin_dir" ] || need cc 'gcc libc6-dev'
need 7z p7zip-full
need jq jq
need xxd xxd
need soffice 'libreoffice-writer-nogui libreoffice-calc-nogui fonts-vlgothic'
need pdftoppm poppler-utils
need bwrap bubblewrap
need iconv libc-bin
if [ ${#missing[@]} -gt 0 ]; then
    # shellcheck disable=SC2068 # an entry may name several packages
    install_packages ${missing[@]}
else
    echo 'nothing'
fi

if [ -z "$bin_dir" ]; then
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
    if ! command -v cargo >/dev/null && ! command -v rustup >/dev/null; then
        # Debian 13 and later package rustup; Debian 12's own rustc is too old.
        apt-cache show rustup >/dev/null 2>&1 || die 'no Rust toolchain: install Rust 1.95 or newer (https://rustup.rs), then run this again'
        install_packages rustup
        rustup default stable
    fi
    step 'Building (a few minutes the first time)'
    (cd "$repo" && cargo build --release --locked --bins)
    bin_dir=$(cd "$repo" && cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release
fi
[ -d "$bin_dir" ] || die "no folder $bin_dir (--bin-dir)"
bin_dir=$(cd "$bin_dir" && pwd)
for program in tobari tobarid tobari-keyserver; do
    [ -x "$bin_dir/$program" ] || die "no $program in $bin_dir"
done
PATH=$bin_dir:$PATH

# --- a folder of its own --------------------------------------------------------------------------------------------
# A folder for temporary files that is not there would stop LibreOffice, too.
if ! [ -d "${TMPDIR:-/tmp}" ] || ! [ -w "${TMPDIR:-/tmp}" ]; then unset TMPDIR; fi
if [ -z "$dir" ]; then
    # Not below $TMPDIR: the path of a socket is at most 107 bytes long.
    dir=$(mktemp -d /tmp/tobari-quickstart.XXXXXX)
else
    mkdir -p "$dir"
    [ -z "$(ls -A "$dir")" ] || die "--dir $dir is not empty"
    dir=$(cd "$dir" && pwd)
fi
chmod 700 "$dir"
server_pid='' daemon_pid=''
stop() {
    status=$?
    if $keep && [ $status -eq 0 ]; then return; fi
    for pid in $daemon_pid $server_pid; do kill "$pid" 2>/dev/null || true; done
    for pid in $daemon_pid $server_pid; do wait "$pid" 2>/dev/null || true; done
    if [ $status -ne 0 ]; then
        echo "quickstart: failed; the last lines of the logs:" >&2
        tail -n 15 "$dir"/*.log >&2 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

free_port() { # a TCP port on which nobody listens now
    local port
    for _ in $(seq 50); do
        port=$((20000 + RANDOM % 12000)) # below what the kernel gives to clients (from 32768)
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
    done
    die 'no free port found'
}
wait_for() { # what seconds command...
    local what=$1 limit=$((SECONDS + $2)) pid; shift 2
    until "$@" >/dev/null 2>&1; do
        for pid in $server_pid $daemon_pid; do kill -0 "$pid" 2>/dev/null || die "waited for $what, but process $pid has ended"; done
        [ $SECONDS -lt $limit ] || die "waited too long for $what"
        sleep 0.05
    done
    # Whoever answers must be ours.
    for pid in $server_pid $daemon_pid; do kill -0 "$pid" 2>/dev/null || die "not ours, $what: process $pid has ended"; done
}

# --- key server -----------------------------------------------------------------------------------------------------
step 'Key server'
port=$(free_port)
password_of() { printf '%s-Tobari-2026' "$1"; }
( umask 077; password_of admin >"$dir/admin.password" )
show tobari-keyserver init --data-dir "$dir/keyserver" --organisation 'みほん市' --admin admin \
    --admin-password-file "$dir/admin.password" --recovery-key-out "$dir/recovery.key" \
    --token-out "$dir/enrolment.token" >"$dir/init.log"
cat "$dir/init.log"
tobari-keyserver serve --data-dir "$dir/keyserver" --listen "127.0.0.1:$port" >"$dir/keyserver.log" 2>&1 &
server_pid=$!
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port"); }
wait_for 'the key server' 120 answers

# --- daemon ---------------------------------------------------------------------------------------------------------
step 'Daemon: file server and terminal in one'
ca_sha256=$(sed -n 's/.*\([0-9a-f]\{64\}\).*/\1/p' "$dir/init.log" | head -n 1)
show tobarid enrol --server "https://127.0.0.1:$port" --ca-sha256 "$ca_sha256" \
    --token-file "$dir/enrolment.token" --state-dir "$dir/daemon" --name "$(uname -n)"
export TOBARI_SOCKET=$dir/control.sock
cat >"$dir/tobarid.toml" <<CONFIG
state_dir = "$dir/daemon"
socket = "$dir/control.sock"
roles = ["seal", "view"]

# Uids of its own: a tobarid that starts ends what is left of sessions with its uids, and one may be at work on this host.
[session]
first_uid = $((2100000000 + RANDOM % 30000 * 64))
uids = 64
CONFIG
tobarid run --config "$dir/tobarid.toml" >"$dir/tobarid.log" 2>&1 &
daemon_pid=$!
wait_for 'the daemon' 120 tobari status

# --- policy: the 社外秘 case with three people --------------------------------------------------------------------
step 'Policy: 社外秘, three people in 総務部'
login() { password_of "$1" | tobari login "$1" --password-stdin; }
login admin
show tobari admin preset apply kigyo
show tobari admin group add 総務部
for person in 'bucho 部長' 'kacho 課長' 'ippan 一般'; do
    read -r name post <<<"$person"
    password_of "$name" | show tobari admin person add "$name" --name "$post" --membership "総務部:$post" --password-stdin
done
folder=$dir/共有/総務部
mkdir -p "$folder"
show tobari admin folder add "$folder" --label 社外秘 --owner-group 総務部
tobari logout

# --- real documents -------------------------------------------------------------------------------------------------
step 'Documents made by real programs'
made=$dir/made
mkdir -p "$made/契約/令和8年度"
printf '打合せ記録\n日時: 令和8年11月21日\n議題: ファイルは漏れる、だからファイル自身が守る。\n' >"$made/打合せ記録.txt"
printf '番号,氏名,金額\n1,山田太郎,120000\n2,鈴木花子,98000\n3,髙橋一郎,45000\n' >"$made/名簿.csv"
printf '番号,氏名,金額\r\n1,山田太郎,120000\r\n2,鈴木花子,98000\r\n' | iconv -f UTF-8 -t SHIFT_JIS >"$made/名簿_sjis.csv"
printf '件名: 見積依頼\r\n宛先: 株式会社見本\r\n' | iconv -f UTF-8 -t SHIFT_JIS >"$made/契約/見積依頼_sjis.txt"
printf '<html><head><meta charset="utf-8"></head><body><h1>業務委託契約書</h1><p>甲と乙は、次のとおり契約する。</p></body></html>' >"$dir/契約書.html"
convert_with() { soffice "-env:UserInstallation=file://$dir/soffice" --headless "$@" >"$dir/soffice.log" 2>&1 || die "soffice failed: $(cat "$dir/soffice.log")"; }
convert_with --infilter='HTML (StarWriter)' --convert-to 'docx:MS Word 2007 XML' --outdir "$made/契約/令和8年度" "$dir/契約書.html"
convert_with --infilter='CSV:44,34,UTF8' --convert-to xlsx --outdir "$made" "$made/名簿.csv"
convert_with --convert-to pdf --outdir "$made/契約" "$made/契約/令和8年度/契約書.docx"
pdftoppm -png -r 72 -singlefile "$made/契約/契約書.pdf" "$made/契約/契約書"
(cd "$made" && find . -type f | sort)

step 'They land in the watched folder and are sealed under their own names'
cp -a "$made/." "$folder/"
magic=89544252
is_sealed() { [ "$(xxd -p -l 4 "$1")" = $magic ]; }
all_sealed() {
    local file
    while IFS= read -r -d '' file; do is_sealed "$file" || return 1; done \
        < <(find "$folder" -name .tobari -prune -o -type f -print0)
}
wait_for 'the files to be sealed' 120 all_sealed
(cd "$folder" && find . -name .tobari -prune -o -type f -printf '%s bytes  %p\n' | sort -k3)
echo 'What a thief gets of 打合せ記録.txt:'
xxd -l 48 "$folder/打合せ記録.txt"
show tobari scan-coverage "$folder"

# --- opening --------------------------------------------------------------------------------------------------------
step '部長 opens one'
login bucho
show tobari info "$folder/打合せ記録.txt"
show tobari cat "$folder/打合せ記録.txt" | tee "$dir/opened.txt"
cmp "$dir/opened.txt" "$made/打合せ記録.txt"
tobari cat "$folder/契約/令和8年度/契約書.docx" | cmp - "$made/契約/令和8年度/契約書.docx"
echo 'the same bytes as before sealing: yes'

step '部長 edits it in a session: opened inside, sealed outside'
if tobari run -- true 2>"$dir/session.log"; then
    # shellcheck disable=SC2016 # for the shell in the session
    show tobari run -- sh -c 'echo 結論: 承認 >>"$1" && tail -n 2 "$1"' sh "$folder/打合せ記録.txt"
    is_sealed "$folder/打合せ記録.txt" || die 'the edited file is not sealed'
    [ "$(tobari cat "$folder/打合せ記録.txt" | tail -n 1)" = '結論: 承認' ] || die 'the edit is lost'
    show tobari run -- soffice --headless --convert-to pdf --outdir "$folder" "$folder/契約/令和8年度/契約書.docx" >"$dir/soffice.log" 2>&1 \
        || die "soffice failed in the session: $(cat "$dir/soffice.log")"
    is_sealed "$folder/契約書.pdf" || die 'what soffice wrote in the session is not sealed'
    tobari cat "$folder/契約書.pdf" | head -c 4 | grep -q '%PDF' || die 'what soffice wrote in the session is not a PDF'
    echo 'edited by sh and by LibreOffice; on the disk there is ciphertext alone'
else
    printf '\033[1;31m!! SKIPPED: sessions cannot be had here:\033[0m %s\n' "$(cat "$dir/session.log")"
    echo '!! They need root, Linux 5.19 or newer with FUSE, overlayfs, user namespaces and Landlock, and bubblewrap (docs/session.md).'
fi

step '一般 may read, and is refused printing and unsealing'
tobari logout
login ippan
show tobari info "$folder/名簿.csv"
rights=$(tobari info --json "$folder/名簿.csv" | jq -c '[.. | .rights? // empty] | first')
echo "rights: $rights"
[ "$rights" = '["view"]' ] || die "expected the right view alone, got $rights"
if show tobari unseal "$folder/名簿.csv" -o "$dir/stolen.csv"; then die 'unseal should have been refused'; fi
if show tobari zip -o "$dir/stolen.zip" "$folder/名簿.csv"; then die 'zip should have been refused'; fi
for file in stolen.csv stolen.zip; do
    if [ -e "$dir/$file" ]; then die "a refused command left $file behind"; fi
done

step '部長 sends one folder outside as a password-ZIP; 7-Zip opens it'
tobari logout
login bucho
tobari zip --json -o "$dir/契約.zip" "$folder/契約" >"$dir/zip.json"
zip_password=$(jq -r .password "$dir/zip.json")
echo "password, shown once: $zip_password"
(cd "$dir" && mkdir received && cd received && 7z x -p"$zip_password" ../契約.zip | grep -E 'Everything is Ok|Files|Folders' )
diff -r "$dir/received/契約" "$made/契約"
if 7z t -p'wrong' "$dir/契約.zip" >/dev/null 2>&1; then die 'the ZIP opened with a wrong password'; fi
echo 'the receiver has the same bytes; a wrong password opens nothing'

step 'Done'
if $keep; then
    cat <<HOW
Key server (pid $server_pid) and daemon (pid $daemon_pid) go on running. In another shell:

    export PATH="$bin_dir:\$PATH" TOBARI_SOCKET="$dir/control.sock"
    tobari whoami; tobari status
    echo 'another secret' > "$folder/memo.txt"; sleep 0.2; tobari info "$folder/memo.txt"; tobari cat "$folder/memo.txt"

People: admin, bucho, kacho, ippan; the password of each is NAME-Tobari-2026.
Stop and remove: kill $daemon_pid $server_pid; rm -rf "$dir"
HOW
else
    echo 'Everything worked. (bash deploy/quickstart.sh --keep leaves it running.)'
fi
