package cli

import (
	"strconv"
	"strings"
	"sync"

	"github.com/alecthomas/kong"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/messages"
)

// defaults are what flags' tags name as ${name}.
var defaults = sync.OnceValue(func() *strings.Replacer {
	var pairs []string
	for name, value := range map[string]string{
		"drone_name": hostName("dr-"), "proxy_name": hostName("px-"), "dns_name": hostName("ns-"), "gateway_name": hostName("gw-"), "worker_name": hostName("wo-"),
		"max_streams": strconv.Itoa(gateway.DefaultMaxStreams), "rate": strconv.Itoa(gateway.DefaultRate),
		"timeout": "5s", "retain": "24h", "start_within": "20m", "lease_ttl": "60s", "token_lifetime": "1h", "top_patience": topPatience.String(),
		"idle_timeout": proxy.DefaultIdleTimeout.String(), "route_trust": proxy.DefaultRouteTrust.String(), "max_route_trust": proxy.MaxRouteTrust.String(),
		"max_backends": strconv.Itoa(messages.MaxNamed),
	} {
		pairs = append(pairs, "${"+name+"}", value)
	}
	return strings.NewReplacer(pairs...)
})

// saysDefaults puts them in. With kong.Vars, kong would search each of them for others, again for each flag of each command:
// that was two fifths of what it cost any command to know its command line.
func saysDefaults(k *kong.Kong) error {
	return kong.Visit(k.Model.Node, func(node kong.Visitable, next kong.Next) error {
		switch node := node.(type) {
		case *kong.Node:
			node.Help = defaults().Replace(node.Help)
		case *kong.Value:
			node.Default, node.Help = defaults().Replace(node.Default), defaults().Replace(node.Help)
		}
		return next(nil)
	})
}
