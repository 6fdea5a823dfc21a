#!/bin/sh
# Runs a command several times with a part of one processor, beside a load that takes
# every processor: slow.sh PERCENT ROUNDS COMMAND… It takes root and a control group
# with the cpu controller, of either version. The first round that fails ends it.
set -eu
percent=$1 rounds=$2
shift 2

if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
	group=/sys/fs/cgroup/jetway-slow
	echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
	mkdir -p $group
	echo "$((percent * 1000)) 100000" >$group/cpu.max
else
	group=/sys/fs/cgroup/cpu/jetway-slow
	mkdir -p $group
	echo 100000 >$group/cpu.cfs_period_us
	echo $((percent * 1000)) >$group/cpu.cfs_quota_us
fi

loads=
trap 'kill $loads 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
n=$(getconf _NPROCESSORS_ONLN)
while [ "$n" -gt 0 ]; do
	sh -c 'while :; do :; done' &
	loads="$loads $!"
	n=$((n - 1))
done

round=1
while [ "$round" -le "$rounds" ]; do
	echo "== round $round of $rounds, with $percent % of a processor, beside a load"
	sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' $group "$@"
	round=$((round + 1))
done
