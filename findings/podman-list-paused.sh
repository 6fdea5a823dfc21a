#!/bin/sh
# Podman 4.3.1 (Debian 12) leaves paused containers out of GET /containers/json, the list of what runs in Docker's API, which in
# Docker has them ("State": "paused"). With all=true both list them, and with a filter status=paused, too.
#
# A program that ends, counts or watches all that runs by that list does not see what is paused on Podman, and no error says so.
#
# What Jetway does: internal/runtime/docker asks for all containers and looks at their state.
#
# Needs root, for Podman below a directory of its own, and for pausing.
set -eu
dir=$(mktemp -d)
pids=""
finish() {
	# shellcheck disable=SC2086
	[ -z "$pids" ] || kill $pids 2>/dev/null || true
	wait
	umount "$dir/root/overlay" 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
mkdir debs tree image
(cd debs && apt-get -qq -o APT::Sandbox::User=root download podman=4.3.1+ds1-8+deb12u1+b3 conmon=2.1.6+ds1-1 runc=1.1.5+ds1-1+deb12u1 busybox-static \
	libgpgme11 libassuan0 libdevmapper1.02.1 libseccomp2 libglib2.0-0 curl libcurl4 >/dev/null)
for deb in debs/*.deb; do dpkg -x "$deb" tree; done
LD_LIBRARY_PATH=$dir/tree/usr/lib/x86_64-linux-gnu:$dir/tree/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH

mkdir -p image/bin && cp tree/bin/busybox image/bin/
tar -C image -cf image.tar .
printf '{"default":[{"type":"insecureAcceptAnything"}]}' >policy.json
cat >containers.conf <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
events_logger = "file"
cgroup_manager = "cgroupfs"
runtime = "runc"
conmon_path = ["$dir/tree/usr/bin/conmon"]
[engine.runtimes]
runc = ["$dir/tree/usr/sbin/runc"]
CONF
CONTAINERS_CONF=$dir/containers.conf
export CONTAINERS_CONF
podman() { tree/usr/bin/podman --root "$dir/root" --runroot "$dir/run" --tmpdir "$dir/tmp" --storage-driver vfs --events-backend file "$@"; }
podman import -q image.tar finding:1 >/dev/null
podman --log-level error system service --time 0 "unix://$dir/sock" &
pids=$!
until [ -S sock ]; do sleep 0.1; done

podman run -d --network none --log-driver none --name finding finding:1 /bin/busybox sleep 600 >/dev/null
listed() { # by a query
	tree/usr/bin/curl -sG --max-time 10 --unix-socket sock http://podman/v1.41/containers/json "$@" | grep -o '"State":"[a-z]*"' | tr '\n' ' '
}
version=$(podman version --format '{{.Client.Version}}')
running=$(listed)
podman pause finding >/dev/null
plain=$(listed)
all=$(listed --data-urlencode all=true)
status=$(listed --data-urlencode 'filters={"status":["paused"]}')
podman rm -f -t 0 finding >/dev/null 2>&1 || { podman unpause finding >/dev/null && podman rm -f -t 0 finding >/dev/null; }
echo "podman $version"
echo "running: ${running:-nothing}"
echo "paused: ${plain:-nothing}; all=true: ${all:-nothing}; status=paused: ${status:-nothing}"
test "$version" = 4.3.1 && test "$running" = '"State":"running" ' && test -z "$plain" && test "$all" = '"State":"paused" ' && test "$status" = '"State":"paused" ' || {
	echo "changed" >&2
	exit 1
}
