#!/bin/sh
# Lets a double-click on a sealed file open its usual application in a session.
#
#   sh deploy/desktop/install.sh [--types] [--user | --prefix DIR]
#
#   (neither)   for everybody, below /usr/local/share; needs root
#   --user      for the calling user, below $XDG_DATA_HOME (~/.local/share)
#   --prefix    below DIR/share
#   --types     for the types of types.list too, whose extensions file managers believe rather than the contents. Files outside of designated
#               folders go on to their usual application. Whoever has chosen another one for a type keeps it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
types=
[ "${1-}" != --types ] || { types=yes; shift; }
case ${1-} in
    '') share=/usr/local/share ;;
    --user) share=${XDG_DATA_HOME:-$HOME/.local/share} ;;
    --prefix) share=${2:?--prefix needs a folder}/share ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
install -D -m 644 "$here/tobari-open.desktop" "$share/applications/tobari-open.desktop"
install -D -m 644 "$here/tobari.xml" "$share/mime/packages/tobari.xml"
for program in update-mime-database update-desktop-database; do
    command -v "$program" >/dev/null || { echo "install.sh: error: $program is missing (packages shared-mime-info, desktop-file-utils)" >&2; exit 1; }
done
if [ -n "$types" ]; then
    list=$share/applications/mimeapps.list
    if [ -e "$list" ] && ! grep -q '^# Tobari: ' "$list"; then
        echo "install.sh: error: $list is there already: add the lines of types.list to it by hand, as TYPE=tobari-open-any.desktop" >&2
        exit 1
    fi
    install -D -m 644 "$here/tobari-open-any.desktop" "$share/applications/tobari-open-any.desktop"
    {
        echo '# Tobari: made by deploy/desktop/install.sh from types.list'
        echo '[Default Applications]'
        sed -n 's/^\([a-z][^ ]*\).*$/\1=tobari-open-any.desktop/p' "$here/types.list"
    } >"$list"
    chmod 644 "$list"
fi
update-mime-database "$share/mime"
update-desktop-database "$share/applications"
