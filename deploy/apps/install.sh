#!/bin/sh
# Installs the applications, at the versions of requirements.txt and package-lock.json, into the folder $1.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
for tool in node npm python3; do
	command -v $tool >/dev/null || { echo "make apps takes $tool, which is not installed" >&2; exit 1; }
done
want=$(cat "$here/requirements.txt" "$here/package-lock.json" | cksum)
[ "$(cat installed 2>/dev/null)" = "$want" ] && exit
echo "installing JupyterLab, Vite, Next.js and others into $1 (some minutes, 1.5 GB)"
cp "$here/package.json" "$here/package-lock.json" .
npm ci --no-audit --no-fund --loglevel=error
python3 -m venv --clear venv
venv/bin/pip install -q --disable-pip-version-check -r "$here/requirements.txt"
echo "$want" >installed
