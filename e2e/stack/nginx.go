package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Nginx is a running nginx.
type Nginx struct {
	*Process
	// Dir is its folder; relative paths of its configuration begin there.
	Dir string
}

// nginxFrame is what stands around the configuration of a site. It keeps all
// files in nginx's folder, and tells how the cache was used.
const nginxFrame = `
worker_processes 1;
pid              nginx.pid;
error_log        stderr notice;
%s
events {
    worker_connections 256;
}
http {
    access_log            off;
    client_body_temp_path body;
    proxy_temp_path       proxy;
    fastcgi_temp_path     fastcgi;
    uwsgi_temp_path       uwsgi;
    scgi_temp_path        scgi;
    add_header            X-Cache $upstream_cache_status always;
%s
}
`

// StartNginx starts Debian's nginx with a site, which is what stands in the
// block http, and returns once it listens on address.
func StartNginx(ctx context.Context, dir, site, address string) (*Nginx, error) {
	// It is not on everybody's PATH.
	binary := "/usr/sbin/nginx"
	if found, err := exec.LookPath("nginx"); err == nil {
		binary = found
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, errors.New("nginx is missing: these tests need it, so install Debian's package nginx-light")
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // who else may not write to dir
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxFrame, user, site), 0o600); err != nil {
		return nil, err
	}
	process, err := Start("nginx", dir, binary, "-p", dir, "-c", config, "-e", "stderr", "-g", "daemon off;")
	if err != nil {
		return nil, err
	}
	n := &Nginx{Process: process, Dir: dir}
	err = Until(ctx, "nginx to listen", 10*time.Second, func() error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; nginx says: %s", err, n.Log.Tail(5)), n.Stop())
	}
	return n, nil
}
