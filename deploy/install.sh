#!/bin/sh
# Installs the release that this script lies in: the program, the sample plugins, the client package and the licences.
#
#   ./install.sh [--prefix DIR]     DIR is /usr/local by default; --prefix "$HOME/.local" needs no root
#
# Nothing is started and no configuration is written. Running it again replaces what an earlier release put there.
set -eu

prefix=/usr/local
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        [ $# -ge 2 ] || { echo "error: --prefix needs a folder" >&2; exit 2; }
        prefix=$2
        shift 2
        ;;
    --prefix=*)
        prefix=${1#--prefix=}
        shift
        ;;
    -h | --help)
        sed -n '2,6s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "error: unknown argument $1; expected --prefix DIR" >&2
        exit 2
        ;;
    esac
done

here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
if [ ! -f SHA256SUMS ]; then
    echo "error: $here/SHA256SUMS is missing; unpack the whole archive" >&2
    exit 1
fi
sha256sum --quiet --check SHA256SUMS || { echo "error: the archive is damaged; download it again" >&2; exit 1; }
if ! ./bin/leadwire --version >/dev/null 2>&1; then
    echo "error: bin/leadwire does not run on this machine; this release is for $(cat TARGET)" >&2
    exit 1
fi

share=$prefix/share/leadwire
mkdir -p "$prefix/bin" "$share"
# A running server keeps its program open: the new one takes its name, and the next start its place.
cp bin/leadwire "$prefix/bin/.leadwire.new"
chmod 755 "$prefix/bin/.leadwire.new"
mv -f "$prefix/bin/.leadwire.new" "$prefix/bin/leadwire"
rm -rf "$share/plugins" "$share/client" "$share/doc"
cp -R plugins client doc "$share/"

"$prefix/bin/leadwire" --version
echo "installed in $prefix; sample plugins are in $share/plugins"
case :$PATH: in
*:"$prefix/bin":*) ;;
*) echo "add $prefix/bin to PATH to call it as leadwire" ;;
esac
