// Package deployed tests what deploy has, as its users meet it: Debian packages installed under a real
// systemd, images that compose starts with an engine, a chart that an apiserver is asked about, and
// several hosts in networks of their own. It has no code but tests; most take programs that
// make deploy-test brings.
package deployed
