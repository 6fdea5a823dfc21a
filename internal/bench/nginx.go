package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoNginx says that there is no nginx to compare with.
var ErrNoNginx = errors.New("nginx is not installed, so there is nothing to compare with; install it: apt-get install nginx-light, or brew install nginx")

// findNginx looks where systems keep it.
func findNginx() (string, error) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoNginx
}

// nginxConfig is nginx as a careful operator would set it up for sessions: kept
// connections on both sides that no number of requests ends, upgrades, the headers
// that proxies add, no log of accesses, and buffers with which downloads are twice as
// fast as with nginx's own defaults. A download is never put into a file.
const nginxConfig = `
daemon off;
worker_processes {{procs}};
worker_rlimit_nofile 65536;
pid {{dir}}/nginx.pid;
error_log stderr error;
events { worker_connections 30000; }
http {
	access_log off;
	client_body_temp_path {{dir}}/body;
	proxy_temp_path {{dir}}/proxy;
	fastcgi_temp_path {{dir}}/fastcgi;
	uwsgi_temp_path {{dir}}/uwsgi;
	scgi_temp_path {{dir}}/scgi;
	keepalive_timeout 120s;
	keepalive_requests 1000000000;
	tcp_nodelay on;
	map $http_upgrade $connection_upgrade {
		default upgrade;
		'' '';
	}
	upstream backend {
		server {{backend}};
		keepalive 256;
		keepalive_requests 1000000000;
	}
	server {
		listen {{listen}} backlog=4096;
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Host $http_host;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_buffers 8 64k;
			proxy_busy_buffers_size 128k;
			proxy_max_temp_file_size 0;
			proxy_read_timeout 10m;
			proxy_send_timeout 10m;
		}
	}
}
`

// startNginx runs nginx in front of the backend, with all its files in dir.
func startNginx(ctx context.Context, dir string, procs int, backend, host string) (*process, target, error) {
	var none target
	program, err := findNginx()
	if err != nil {
		return nil, none, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, none, err
	}
	workers := "auto"
	if procs > 0 {
		workers = strconv.Itoa(procs)
	}
	config := strings.NewReplacer("{{dir}}", dir, "{{procs}}", workers, "{{backend}}", backend, "{{listen}}", listen).Replace(nginxConfig)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, none, fmt.Errorf("write nginx's configuration: %w", err)
	}
	// The log before the configuration is read: not the system's.
	p, err := start("nginx", []string{program, "-p", dir, "-e", "stderr", "-c", file}, nil, nil)
	if err != nil {
		return nil, none, err
	}
	t := target{name: ViaNginx, address: listen, host: host, process: p}
	if err := p.answers(ctx, t); err != nil {
		p.stop()
		return nil, none, err
	}
	return p, t, nil
}
