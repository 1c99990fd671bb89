package stack

import (
	"io"
	"net"
	"sync"
	"time"
)

// Wire is a TCP connection between programs that can be cut, as a proxy that
// knows nothing of what passes. It may be used by several goroutines at once.
type Wire struct {
	// Address is where it listens.
	Address string

	target string

	mu       sync.Mutex
	listener net.Listener // nil while down
	state    *wireState
	conns    map[*wired]bool
}

// Trouble is what a wire does to the bytes that come back from its target. The
// zero value does nothing.
type Trouble struct {
	// Stalled holds up all bytes, in both directions, until there is another
	// trouble.
	Stalled bool
	// Cuts ends each connection when Cut more bytes have come back, of which there
	// may be none.
	Cuts bool
	Cut  int
	// Reset makes the end an error in place of an orderly one.
	Reset bool
	// Slow is the time for each byte that comes back.
	Slow time.Duration
}

// wireState is a trouble for as long as it lasts.
type wireState struct {
	Trouble
	over chan struct{}
}

// wired is one connection through a wire.
type wired struct {
	client, server *net.TCPConn
	end            sync.Once
}

// NewWire returns a wire to a host and port. It is up.
func NewWire(target string) (*Wire, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	w := &Wire{
		Address: address, target: target,
		state: &wireState{over: make(chan struct{})}, conns: map[*wired]bool{},
	}
	return w, w.Up()
}

// Up makes the wire accept connections.
func (w *Wire) Up() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", w.Address) //nolint:noctx // Returns at once.
	if err != nil {
		return err
	}
	w.listener = listener
	go w.accept(listener)
	return nil
}

// Down ends all connections; none can be made any more.
func (w *Wire) Down() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != nil {
		_ = w.listener.Close()
		w.listener = nil
	}
	for c := range w.conns {
		c.close(true)
	}
}

// Trouble changes what happens to the connections there are, and to new ones.
// Bytes are counted anew.
func (w *Wire) Trouble(t Trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.state.over)
	w.state = &wireState{Trouble: t, over: make(chan struct{})}
}

func (w *Wire) now() *wireState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *Wire) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // It went down.
		}
		go w.serve(listener, client.(*net.TCPConn))
	}
}

func (w *Wire) serve(listener net.Listener, client *net.TCPConn) {
	server, err := net.Dial("tcp", w.target) //nolint:noctx // To a program on this machine.
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	c := &wired{client: client, server: server.(*net.TCPConn)}
	w.mu.Lock()
	up := w.listener == listener
	if up {
		w.conns[c] = true
	}
	w.mu.Unlock()
	if !up {
		c.close(true)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&flow{wire: w, conn: c, to: c.server, from: c.client}).run()
	}()
	(&flow{wire: w, conn: c, to: c.client, from: c.server, back: true}).run()
	<-done
	w.mu.Lock()
	delete(w.conns, c)
	w.mu.Unlock()
}

// flow is one direction of a connection: bytes that go, or those that come back.
type flow struct {
	wire     *Wire
	conn     *wired
	to, from *net.TCPConn
	back     bool

	state  *wireState
	passed int // since state came
}

// run passes bytes until either side ends.
func (f *flow) run() {
	defer f.conn.close(false)
	buffer := make([]byte, 16<<10)
	for {
		n, err := f.from.Read(buffer)
		for chunk := buffer[:n]; len(chunk) > 0; {
			m, ok := f.step(chunk)
			if !ok {
				return
			}
			chunk = chunk[m:]
		}
		if err != nil {
			if err != io.EOF { //nolint:errorlint // Read returns it as it is.
				f.conn.close(true)
			}
			return
		}
	}
}

// step passes some bytes of a chunk, or waits, and returns how many. It is false
// once the connection is at its end.
func (f *flow) step(chunk []byte) (passed int, ok bool) {
	if now := f.wire.now(); now != f.state {
		f.state, f.passed = now, 0
	}
	if f.state.Stalled {
		<-f.state.over
		return 0, true
	}
	n := len(chunk)
	if f.back && f.state.Slow > 0 {
		n = 1
	}
	if f.back && f.state.Cuts {
		n = min(n, f.state.Cut-f.passed)
	}
	if n > 0 {
		if _, err := f.to.Write(chunk[:n]); err != nil {
			return 0, false
		}
	}
	f.passed += n
	if f.back && f.state.Cuts && f.passed >= f.state.Cut {
		f.conn.close(f.state.Reset)
		return 0, false
	}
	if f.back && f.state.Slow > 0 {
		f.state.sleep()
	}
	return n, true
}

// sleep waits for as long as a byte takes, or until the trouble is over.
func (s *wireState) sleep() {
	timer := time.NewTimer(s.Slow)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.over:
	}
}

// close ends a connection on both sides, by an error if reset is set.
func (c *wired) close(reset bool) {
	c.end.Do(func() {
		if reset {
			_ = c.client.SetLinger(0)
		}
		_ = c.client.Close()
		_ = c.server.Close()
	})
}
