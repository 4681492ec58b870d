#!/bin/sh
# Lets a double-click on a sealed file open its usual application in a session.
#
#   sh deploy/desktop/install.sh [--user | --prefix DIR]
#
#   (neither)   for everybody, below /usr/local/share; needs root
#   --user      for the calling user, below $XDG_DATA_HOME (~/.local/share)
#   --prefix    below DIR/share
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1-} in
    '') share=/usr/local/share ;;
    --user) share=${XDG_DATA_HOME:-$HOME/.local/share} ;;
    --prefix) share=${2:?--prefix needs a folder}/share ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
install -D -m 644 "$here/tobari-open.desktop" "$share/applications/tobari-open.desktop"
install -D -m 644 "$here/tobari.xml" "$share/mime/packages/tobari.xml"
for program in update-mime-database update-desktop-database; do
    command -v "$program" >/dev/null || { echo "install.sh: error: $program is missing (packages shared-mime-info, desktop-file-utils)" >&2; exit 1; }
done
update-mime-database "$share/mime"
update-desktop-database "$share/applications"
