package stack

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/coder/websocket"
)

// Upstream is the server behind the gateway. It answers any request with what
// it received, as an Echo. Three kinds of request are special:
//
//   - a WebSocket handshake: every message comes back;
//   - Accept: text/event-stream: one event comes at once, another after Release;
//   - with X-Hold: the answer comes after Release.
type Upstream struct {
	URL string

	server *httptest.Server
	mu     sync.Mutex
	hits   map[string]int
	gates  map[string]chan struct{}
}

// Echo is what the upstream received.
type Echo struct {
	Method     string      `json:"method"`
	RequestURI string      `json:"requestURI"`
	Host       string      `json:"host"`
	Header     http.Header `json:"header"`
	Body       string      `json:"body"`
}

// StartUpstream starts an upstream at address; empty means a free port.
func StartUpstream(address string) (*Upstream, error) {
	u := &Upstream{hits: map[string]int{}, gates: map[string]chan struct{}{}}
	u.server = httptest.NewUnstartedServer(u)
	if address != "" {
		listener, err := net.Listen("tcp", address) //nolint:noctx // Returns at once.
		if err != nil {
			return nil, fmt.Errorf("starting the upstream: %w", err)
		}
		_ = u.server.Listener.Close()
		u.server.Listener = listener
	}
	u.server.Start()
	u.URL = u.server.URL
	return u, nil
}

// Stop ends the upstream and what it still serves.
func (u *Upstream) Stop() {
	u.server.CloseClientConnections()
	u.server.Close()
}

// Hits returns how many requests came for a path.
func (u *Upstream) Hits(path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.hits[path]
}

// Release lets go on what waits for the given name.
func (u *Upstream) Release(name string) { close(u.gate(name)) }

func (u *Upstream) gate(name string) chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gates[name] == nil {
		u.gates[name] = make(chan struct{})
	}
	return u.gates[name]
}

// hold waits for the release of a name, or for the client to go.
func (u *Upstream) hold(r *http.Request, name string) {
	select {
	case <-u.gate(name):
	case <-r.Context().Done():
	}
}

func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.hits[r.URL.Path]++
	u.mu.Unlock()

	switch {
	case r.Header.Get("Upgrade") == "websocket":
		echoMessages(w, r)
	case r.Header.Get("Accept") == "text/event-stream":
		u.sendEvents(w, r)
	default:
		if name := r.Header.Get("X-Hold"); name != "" {
			u.hold(r, name)
		}
		echo(w, r)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(Echo{r.Method, r.RequestURI, r.Host, r.Header, string(body)}) // The client may be gone.
}

func (u *Upstream) sendEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprint(w, "data: first\n\n")
	_ = http.NewResponseController(w).Flush()
	u.hold(r, r.Header.Get("X-Hold"))
	_, _ = fmt.Fprint(w, "data: last\n\n")
}

func echoMessages(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered.
	}
	defer conn.CloseNow() //nolint:errcheck // Closed already when all went well.
	conn.SetReadLimit(1 << 20)
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}
