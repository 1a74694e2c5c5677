#!/bin/sh
# fetch.sh RUNTIME PREFIX DIRECTORY: unpack the archives of that runtime whose names begin with PREFIX into DIRECTORY.
#
# Needs npm, whose registry serves them; what arrives must have the digests in archives.txt.
set -eu
runtime=$1 prefix=$2 directory=$3
mkdir -p "$directory"
found=
while read -r for_runtime machine name version digest; do
    case "$for_runtime $machine $name" in
    "$runtime any $prefix"* | "$runtime $(uname -m) $prefix"*) ;;
    *) continue ;;
    esac
    archive=$(npm pack --silent --pack-destination /tmp "$name@$version")
    echo "$digest  /tmp/$archive" | sha512sum --check --quiet
    tar -xzf "/tmp/$archive" -C "$directory" --strip-components=1 --no-same-owner
    rm "/tmp/$archive"
    found=1
done </build/archives.txt
[ -n "$found" ] || { echo "archives.txt has no $prefix for $runtime on $(uname -m)" >&2; exit 1; }
