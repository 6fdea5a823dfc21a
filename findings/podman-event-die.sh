#!/bin/sh
# Podman 4.3.1 (Debian 12) answers Docker's event stream with containers' ends whose Action is "die", but a filter
# event=die matches none of them; event=died does, which Docker knows nothing of.
#
# Podman translates its own word `died` to Docker's `die` when it writes an event, and filters before that. A client of
# Docker's API that asks for event=die, as its documentation says, hears of no end and sees no error.
#
# What Jetway does: internal/runtime/docker asks for both, and sees ends of local containers by pidfd.
#
# Needs root, for Podman below a directory of its own.
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

since=$(date +%s)
podman run --rm --network none --log-driver none --name finding finding:1 /bin/busybox true
ends() { # the filter's word
	tree/usr/bin/curl -sG --max-time 10 --unix-socket sock http://podman/v1.41/events --data-urlencode "since=$since" --data-urlencode "until=$(($(date +%s) + 2))" \
		--data-urlencode "filters={\"type\":[\"container\"],\"event\":[\"$1\"]}" | grep -o '"Action":"[a-z]*"' | sort | uniq -c | sed 's/^ *//' | tr '\n' ' '
}
version=$(podman version --format '{{.Client.Version}}')
echo "podman $version"
die=$(ends die)
died=$(ends died)
echo "event=die: ${die:-nothing}"
echo "event=died: ${died:-nothing}"
test "$version" = 4.3.1 && test -z "$die" && test "$died" = '1 "Action":"die" ' || {
	echo "changed" >&2
	exit 1
}
