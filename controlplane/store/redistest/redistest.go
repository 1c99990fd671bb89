// Package redistest starts real Redis servers for tests. They listen on loopback,
// on ports that were free a moment before, keep nothing beyond the test, and end
// with it.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long may be waited for a server; it is no delay.
const patience = 20 * time.Second

// Ports below the kernel's ephemeral range, so that no outgoing connection takes
// one between our look and the server's start. The nodes of a cluster talk on a
// second port, 10,000 higher.
const (
	firstPort = 12000
	lastPort  = 20000
	busOffset = 10000
)

// Server is a server that can be killed, paused and started again.
type Server struct {
	// Address is host:port.
	Address string
	// Dir is its folder.
	Dir string

	t       *testing.T
	program string
	args    []string

	mu      sync.Mutex
	output  bytes.Buffer
	command *exec.Cmd
	ended   chan struct{}
}

// program returns the path of a server's program: what $REDIS_SERVER names, such
// as valkey-server, or redis-server.
func program(t *testing.T) string {
	t.Helper()
	name := os.Getenv("REDIS_SERVER")
	if name == "" {
		name = "redis-server"
	}
	path, err := exec.LookPath(name)
	switch {
	case err != nil && name != "redis-server":
		t.Fatalf("$REDIS_SERVER: %v", err)
	case err != nil:
		t.Fatal("redis-server is missing: these tests need it, so install Debian's package redis-server")
	}
	return path
}

// freePort returns a port that nothing listens on, nor on the one of its bus.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // Nobody gains by guessing it.
		if isFree(port) && isFree(port+busOffset) {
			return strconv.Itoa(port)
		}
	}
	t.Fatal("found no free port in 100 tries")
	return ""
}

func isFree(port int) bool {
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)) //nolint:noctx // Returns at once.
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// Start starts a server with arguments such as "--requirepass", "secret".
func Start(t *testing.T, args ...string) *Server {
	t.Helper()
	port := freePort(t)
	s := &Server{t: t, Address: "127.0.0.1:" + port, Dir: t.TempDir(), program: program(t)}
	s.args = append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.Dir, "--save", "", "--appendonly", "no", "--daemonize", "no",
		"--repl-diskless-sync-delay", "0",
	}, args...)
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// StartSentinel starts a sentinel that watches over master, which it calls by a
// name.
func StartSentinel(t *testing.T, name string, master *Server) *Server {
	t.Helper()
	port := freePort(t)
	host, masterPort, err := net.SplitHostPort(master.Address)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Address: "127.0.0.1:" + port, Dir: t.TempDir(), program: program(t)}
	config := filepath.Join(s.Dir, "sentinel.conf")
	text := fmt.Sprintf(`port %[1]s
bind 127.0.0.1
dir %[2]s
sentinel monitor %[3]s %[4]s %[5]s 1
sentinel down-after-milliseconds %[3]s 500
sentinel failover-timeout %[3]s 2000
`, port, s.Dir, name, host, masterPort)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{config, "--sentinel"}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// Restart starts a server that does not run, and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
	s.Await("an answer", func(ctx context.Context, client *redis.Client) error {
		err := client.Ping(ctx).Err()
		if redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "WRONGPASS") {
			return nil
		}
		return err
	})
}

// Await asks the server until what it is asked is so. Its connection has neither
// user nor password.
func (s *Server) Await(what string, look func(ctx context.Context, client *redis.Client) error) {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.Address, MaxRetries: -1, DisableIdentity: true})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := look(ctx, client)
		if err == nil {
			return
		}
		select {
		case <-s.ended:
			s.t.Fatalf("%s ended, it says: %s", s.program, s.Output())
		case <-ctx.Done():
			s.t.Fatalf("waiting for %s: %v; %s says: %s", what, err, s.program, s.Output())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Output returns what the server has said.
func (s *Server) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

// Write is for the server's output.
func (s *Server) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.Write(text)
}

func (s *Server) start() error {
	s.command = exec.CommandContext(context.Background(), s.program, s.args...) //nolint:gosec // Tests name them.
	s.command.Dir = s.Dir
	s.command.Stdout, s.command.Stderr = s, s
	s.command.SysProcAttr = withUs()
	s.ended = make(chan struct{})
	started := make(chan error)
	command, ended := s.command, s.ended
	go func() {
		// The kernel ends the program when the thread ends that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // It was killed.
		}
		close(ended)
	}()
	return <-started
}

// Kill ends the server as a crash does. Killing it twice does nothing.
func (s *Server) Kill() {
	if s.command == nil || s.command.Process == nil {
		return
	}
	s.signal(syscall.SIGKILL)
	<-s.ended
}

// Pause stops the server where it is: its connections stay, and nothing comes over
// them.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume makes a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) {
	if err := s.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("sending %s to %s: %v", signal, s.program, err)
	}
}

// Client returns a client of the server, which is closed when the test ends.
func (s *Server) Client() *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: s.Address, MaxRetries: -1, DisableIdentity: true})
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// ReplicaOf makes the server a replica of another, and waits until it has what
// that one has.
func (s *Server) ReplicaOf(master *Server) {
	s.t.Helper()
	host, port, err := net.SplitHostPort(master.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Client().ReplicaOf(s.t.Context(), host, port).Err(); err != nil {
		s.t.Fatal(err)
	}
	s.AwaitInfo("replication", "master_link_status:up")
}

// StartCluster starts a cluster of three masters, and so many replicas of each. A
// node counts as failed after half a second.
func StartCluster(t *testing.T, replicas int) []*Server {
	t.Helper()
	nodes := make([]*Server, masters*(1+replicas))
	ids := make([]string, len(nodes))
	for i := range nodes {
		nodes[i] = Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-replica-validity-factor", "0")
		ids[i] = nodes[i].join(nodes[0], i)
	}
	for i := masters; i < len(nodes); i++ {
		nodes[i].Await("its master", func(ctx context.Context, client *redis.Client) error {
			return client.ClusterReplicate(ctx, ids[i%masters]).Err()
		})
	}
	for i, node := range nodes {
		node.AwaitInfo("the cluster", "cluster_state:ok", fmt.Sprintf("cluster_known_nodes:%d", len(nodes)))
		if i >= masters {
			node.AwaitInfo("replication", "master_link_status:up")
		}
	}
	return nodes
}

// masters is how many a cluster has.
const masters = 3

// join makes the server the node of a number in the cluster of another, and
// returns its name there.
func (s *Server) join(first *Server, number int) string {
	s.t.Helper()
	const slots = 16384
	client := s.Client()
	id, err := client.ClusterMyID(s.t.Context()).Result()
	if err == nil {
		err = client.Do(s.t.Context(), "cluster", "set-config-epoch", number+1).Err()
	}
	if err == nil && number < masters {
		err = client.ClusterAddSlotsRange(s.t.Context(), slots*number/masters, slots*(number+1)/masters-1).Err()
	}
	if err == nil && s != first {
		host, port, _ := net.SplitHostPort(first.Address)
		err = client.ClusterMeet(s.t.Context(), host, port).Err()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// AwaitInfo waits until all that is wanted is in what the server tells of itself.
func (s *Server) AwaitInfo(what string, wanted ...string) {
	s.t.Helper()
	s.Await(what, func(ctx context.Context, client *redis.Client) error {
		told, err := client.Info(ctx, "replication").Result()
		if err != nil {
			return err
		}
		if of, err := client.ClusterInfo(ctx).Result(); err == nil {
			told += of
		}
		for _, want := range wanted {
			if !strings.Contains(told, want) {
				return fmt.Errorf("%s is not in %s", want, told)
			}
		}
		return nil
	})
}

// FreeAddress returns an address of loopback that nothing listens on.
func FreeAddress(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + freePort(t)
}
