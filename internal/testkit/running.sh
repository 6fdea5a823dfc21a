#!/bin/sh
# Says once a minute which packages' tests still run, for go test says nothing of one before it has ended. It ends with its parent,
# or when it is told to.
pause=
trap 'kill $pause 2>/dev/null; exit' TERM INT
minutes=0
while kill -0 "$PPID" 2>/dev/null; do
	sleep 60 &
	pause=$!
	wait $pause
	minutes=$((minutes + 1))
	running=$(ps -Ao comm= | sed -n 's|^.*/||; s|^\([a-z0-9-]*\)\.test$|\1|p' | sort -u | tr '\n' ' ')
	[ -z "$running" ] || echo "  after $minutes min, the tests of these packages run: $running"
done
