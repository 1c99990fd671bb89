package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// host runs gateways. One goroutine at a time may change it.
type host interface {
	// url is where all gateways are, told apart by the host of a request.
	url() string
	// configure makes these the gateways there are.
	configure(gateways []*gateway) error
	// reload makes all gateways anew.
	reload() error
	// restart kills the host, calls dead, and starts it with the same
	// configuration.
	restart(dead func()) error
	// log is what it wrote since it was started.
	log() *stack.Log
}

// hosts are the kinds there are.
var hosts = []struct {
	name  string
	start func(t *testing.T) host
}{
	{"traefik", startTraefik},
	{"compiled", startCompiled},
}

// traefik is a real Traefik.
type traefik struct {
	options  stack.TraefikOptions
	upstream string

	mu      sync.Mutex
	traefik *stack.Traefik
	reloads int
}

func startTraefik(t *testing.T) host {
	t.Helper()
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	address, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	h := &traefik{upstream: server.URL, options: stack.TraefikOptions{
		Binary: traefikBinary, Dir: t.TempDir(), Address: address,
		Static: func(static map[string]any) { delete(static, "accessLog") },
	}}
	t.Cleanup(func() {
		if err := h.traefik.Kill(); err != nil { // It would wait for what we hold.
			t.Error(err)
		}
		if line, found := h.traefik.Log.Find(0, "panic"); found {
			t.Errorf("something panicked in Traefik: %s", line)
		}
	})
	if h.traefik, err = stack.StartTraefik(t.Context(), h.options); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *traefik) running() *stack.Traefik {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.traefik
}

func (h *traefik) url() string     { return h.running().URL }
func (h *traefik) log() *stack.Log { return h.running().Log }

func (h *traefik) configure(gateways []*gateway) error {
	d := stack.Dynamic{HTTP: stack.HTTP{
		Routers: map[string]stack.Router{}, Middlewares: map[string]stack.Middleware{},
		Services: map[string]stack.Service{"upstream": stack.UpstreamService(h.upstream)},
	}}
	for _, g := range gateways {
		d.HTTP.Routers[g.name] = stack.Router{
			EntryPoints: []string{stack.Web}, Rule: "Host(`" + g.domain() + "`)", Middlewares: []string{g.name}, Service: "upstream",
		}
		d.HTTP.Middlewares[g.name] = stack.Tollgate(g.config())
		g.starting = true
	}
	if err := h.running().Configure("gateways", d); err != nil {
		return err
	}
	return h.reload()
}

// reload adds a router, which makes Traefik build all its middlewares anew, and
// waits until that is served.
func (h *traefik) reload() error {
	h.reloads++
	g := &gateway{name: fmt.Sprintf("reload-%d", h.reloads), host: h}
	d := stack.Dynamic{HTTP: stack.HTTP{
		Routers: map[string]stack.Router{"marker": {
			EntryPoints: []string{stack.Web}, Rule: "Host(`" + g.domain() + "`)", Service: "marker",
		}},
		Services: map[string]stack.Service{"marker": stack.UpstreamService(h.upstream)},
	}}
	if err := h.running().Configure("marker", d); err != nil {
		return err
	}
	err := stack.Until(context.Background(), "the reload", patience, func() error {
		got, err := g.send(always)
		if err == nil && got.status != http.StatusOK {
			err = fmt.Errorf("status %d", got.status)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w; Traefik's last lines:\n%s", err, h.log().Tail(10))
	}
	return nil
}

func (h *traefik) restart(dead func()) error {
	if err := h.running().Kill(); err != nil {
		return err
	}
	client.CloseIdleConnections()
	dead()
	started, err := stack.StartTraefik(context.Background(), h.options)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.traefik = started
	return nil
}

// compiled is a process that runs the plugin as it was compiled into this one.
type compiled struct {
	dir     string
	address string

	mu      sync.Mutex
	process *stack.Process
}

func startCompiled(t *testing.T) host {
	t.Helper()
	address, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	h := &compiled{dir: t.TempDir(), address: address}
	if err := h.write(nil); err != nil {
		t.Fatal(err)
	}
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.running().Kill(); err != nil {
			t.Error(err)
		}
		for _, word := range []string{"panic", "DATA RACE"} {
			if _, found := h.log().Find(0, word); found {
				t.Errorf("the host of compiled gateways wrote\n%s", strings.Join(h.log().Since(0), "\n"))
			}
		}
	})
	return h
}

func (h *compiled) running() *stack.Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.process
}

func (h *compiled) url() string     { return "http://" + h.address }
func (h *compiled) log() *stack.Log { return h.running().Log }
func (h *compiled) file() string    { return filepath.Join(h.dir, "gateways.json") }

// hosted is the file of a compiled host.
type hosted struct {
	Address  string
	Gateways map[string]stack.Config // by host
}

func (h *compiled) write(gateways []*gateway) error {
	content := hosted{Address: h.address, Gateways: map[string]stack.Config{}}
	for _, g := range gateways {
		content.Gateways[g.domain()] = g.config()
	}
	return os.WriteFile(h.file(), mustJSON(content), 0o600)
}

func (h *compiled) configure(gateways []*gateway) error {
	if err := h.write(gateways); err != nil {
		return err
	}
	return h.reload()
}

func (h *compiled) reload() error {
	lines := h.log().Len()
	if err := h.running().Signal(syscall.SIGHUP); err != nil {
		return err
	}
	_, err := h.log().Await(context.Background(), lines, patience, configured)
	return err
}

func (h *compiled) start() error {
	process, err := stack.Start("host of compiled gateways", h.dir, os.Args[0], "-compiled-host="+h.file())
	if err != nil {
		return err
	}
	if _, err := process.Log.Await(context.Background(), 0, patience, configured); err != nil {
		return fmt.Errorf("%w; it wrote\n%s", err, process.Log.Tail(20))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.process = process
	return nil
}

func (h *compiled) restart(dead func()) error {
	if err := h.running().Kill(); err != nil {
		return err
	}
	client.CloseIdleConnections()
	dead()
	return h.start()
}

// configured is what a compiled host writes when its gateways are there.
const configured = "the gateways are configured"

// serveCompiled is a compiled host. It returns only if it cannot go on.
func serveCompiled(file string) error {
	// As in Traefik, ours goes to where package log writes.
	log.SetOutput(os.Stderr)
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)

	var gateways sync.Map // of http.Handler, by host
	cancel := func() {}
	load := func() (address string, err error) {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		var content hosted
		if err := json.Unmarshal(data, &content); err != nil {
			return "", err
		}
		cancel() // Traefik ends the old ones first, too.
		var ctx context.Context
		ctx, cancel = context.WithCancel(context.Background())
		for domain, c := range content.Gateways {
			g, err := tollgate.New(ctx, upstream, pluginConfig(c), domain)
			if err != nil {
				return "", err
			}
			gateways.Store(domain, g)
		}
		return content.Address, nil
	}
	address, err := load()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(configured)
	ended := make(chan error, 1)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g, ok := gateways.Load(r.Host); ok {
			g.(http.Handler).ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})}
	go func() { ended <- server.Serve(listener) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-hangUp:
			if _, err := load(); err != nil {
				return err
			}
			fmt.Println(configured)
		}
	}
}

// pluginConfig returns a configuration as Traefik would decode it: what is not set
// keeps its default, and texts become lists at their commas.
func pluginConfig(c stack.Config) *tollgate.Config {
	p := tollgate.CreateConfig()
	p.API = c.API
	p.KeySource.Header = c.KeySource.Header
	p.Sync.Endpoint = strings.Split(c.Sync.Endpoint, ",")
	p.Sync.CacheFile = c.Sync.CacheFile
	p.Sync.Token = c.Sync.Token
	if c.Sync.PublicKey != "" {
		p.Sync.PublicKey = strings.Split(c.Sync.PublicKey, ",")
	}
	if c.Sync.MaxBytes != 0 {
		p.Sync.MaxBytes = c.Sync.MaxBytes
	}
	for _, d := range []struct {
		to   *string
		from string
	}{
		{&p.Sync.Interval, c.Sync.Interval}, {&p.Sync.Timeout, c.Sync.Timeout}, {&p.Sync.Wait, c.Sync.Wait}, {&p.Sync.MaxStaleness, c.Sync.MaxStaleness},
	} {
		if d.from != "" {
			*d.to = d.from
		}
	}
	return p
}
