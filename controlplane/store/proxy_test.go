package store_test

import (
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between a store and a server, and spoils answers.
type proxy struct {
	address string

	t      *testing.T
	target string

	mu sync.Mutex
	// before is called with each answer, or part of one, before it is passed on.
	// If it returns false, the connection is cut instead.
	before func() bool
	delay  time.Duration
	open   []net.Conn
	ended  bool
	copies sync.WaitGroup
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, target: target, address: listener.Addr().String()}
	p.copies.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.copies.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.ended = true
		for _, conn := range p.open {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.copies.Wait()
	})
	return p
}

// onAnswer sets what is called before each answer; nil passes them on.
func (p *proxy) onAnswer(before func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = before
}

// loseNext has the next answer lost, after during was called.
func (p *proxy) loseNext(during func()) {
	var once sync.Once
	p.onAnswer(func() bool {
		pass := true
		once.Do(func() {
			pass = false
			during()
		})
		return pass
	})
}

// slow has each answer wait.
func (p *proxy) slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// keep has a connection closed at the end, and returns false if that has come.
func (p *proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_ = conn.Close()
		return false
	}
	p.open = append(p.open, conn)
	return true
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).Dial("tcp", p.target)
	if err != nil || !p.keep(client) || !p.keep(server) {
		return
	}
	defer server.Close()
	p.copies.Go(func() {
		defer server.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		before, delay := p.before, p.delay
		p.mu.Unlock()
		if before != nil && !before() {
			return
		}
		time.Sleep(delay)
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
