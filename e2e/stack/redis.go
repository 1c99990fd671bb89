package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Redis is a running redis-server.
type Redis struct {
	*Process
	// Address is host:port.
	Address string
	// Dir is its folder.
	Dir string
}

// StartRedis starts Debian's redis-server, or the program that $REDIS_SERVER names,
// and returns once it answers with all that it holds. It listens on address; empty
// means a free port. What it has confirmed is in dir, whatever happens to it.
func StartRedis(ctx context.Context, dir, address string) (*Redis, error) {
	name := os.Getenv("REDIS_SERVER")
	if name == "" {
		name = "redis-server"
	}
	binary, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("these tests need redis-server, so install Debian's package of that name: %w", err)
	}
	if address, err = addressOr(address); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	process, err := Start("redis", dir, binary, "--bind", host, "--port", port, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no")
	if err != nil {
		return nil, err
	}
	r := &Redis{Process: process, Address: address, Dir: dir}
	alive, cancel := r.whileAlive(ctx)
	defer cancel()
	err = Until(alive, "redis-server to answer", 20*time.Second, func() error { return r.ping(alive) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; redis-server says: %s", err, r.Log.Tail(5)), r.Stop())
	}
	return r, nil
}

// ping fails while the server does not listen, or still reads what it holds.
func (r *Redis) ping(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "+PONG") {
		return fmt.Errorf("it answers %q", strings.TrimSpace(line))
	}
	return nil
}
